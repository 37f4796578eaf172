"""Threads that a student starts by itself, and which therefore have no context of `dspy.context` or of the rollout."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMServerError

from simba_actors.errors import LMUnavailableError
from simba_actors.evaluation.executor import LocalExecutor, RolloutTask
from simba_actors.lm.governor import Governor
from simba_actors.lm.retry import Retry
from simba_actors.lm.rollout_context import current_rollout
from simba_actors.programs import ConfigurationSpace
from simba_actors.search.rollout import ModelSpec, Outcome, Trajectory
from tests.support.quiz import exact, questions
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import PATIENCE


class InAPool(dspy.Module):
    """Runs `work` in a thread without its context."""

    def __init__(self, work: Callable[[Any, str], Any]) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.work = work

    def forward(self, question: str) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self.work, self.ask, question).result()


def asks(ask: Any, question: str) -> Any:
    return ask(question=question)


def asks_on_a_loop(ask: Any, question: str) -> Any:
    return asyncio.run(ask.acall(question=question))


def right(ask: Ask) -> dict[str, Any]:
    return {"answer": questions(1)[0].answer}


async def rollout(
    work: Callable[[Any, str], Any],
    lm: Any,
    *,
    model: ModelSpec | None = None,
    retry: Retry | None = None,
    metric: Callable[..., Any] = exact,
) -> Trajectory:
    student = InAPool(work)
    space = ConfigurationSpace.from_module(student)
    executor = LocalExecutor(
        student=student,
        space=space,
        examples={"train": questions(1)},
        metric=metric,
        lms={"student": lm},
        governor=Governor(retry=retry),
    )
    return await executor.run(RolloutTask(space.extract(student), 0, model or ModelSpec()))


@pytest.mark.parametrize("work", [asks, asks_on_a_loop])
@pytest.mark.parametrize("model", [ModelSpec(), ModelSpec(rollout_id=1, temperature=1.0)])
async def test_a_predictor_calls_the_runs_lm_and_the_rollout_counts_it(work: Any, model: ModelSpec) -> None:
    trajectory = await rollout(work, ScriptedLM(right), model=model)
    assert (trajectory.outcome, trajectory.score, trajectory.usage.calls) == (Outcome.SCORED, 1.0, 1)
    assert trajectory.usage.tokens


async def test_an_lm_of_dspys_context_comes_first_there_too() -> None:
    default, other = ScriptedLM(right), ScriptedLM(right)

    def asks_another(ask: Any, question: str) -> Any:
        with dspy.context(lm=other):
            return ask(question=question)

    trajectory = await rollout(asks_another, default)
    assert (len(default.asks), len(other.asks), trajectory.usage.calls) == (0, 1, 1)


async def test_an_lm_that_fails_there_is_no_score_though_the_student_goes_on() -> None:
    def fails(ask: Ask) -> dict[str, Any]:
        raise LMServerError("down")

    def swallows(ask: Any, question: str) -> Any:
        try:
            return ask(question=question)
        except Exception:
            return dspy.Prediction(answer="none")

    with pytest.raises(LMUnavailableError, match="down"):
        await rollout(swallows, ScriptedLM(fails), retry=Retry(attempts=2, base=0.001))


async def test_a_judge_that_a_metric_asks_there_is_counted() -> None:
    judge = ScriptedLM(lambda ask: {"verdict": "True"})
    ask: Any = dspy.Predict("answer -> verdict: bool")
    ask.lm = judge

    def metric(example: Any, prediction: Any) -> float:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(lambda n: ask(answer=f"{prediction.answer} {n}").verdict, range(2))) / 2

    trajectory = await rollout(asks, ScriptedLM(right), metric=metric)
    assert (trajectory.score, trajectory.usage.calls, len(judge.asks)) == (1.0, 3, 2)


async def test_a_thread_that_outlives_its_rollout_belongs_to_none() -> None:
    ended, seen = threading.Event(), list[Any]()

    def leaves_a_thread(ask: Any, question: str) -> Any:
        def work() -> None:
            seen.append(current_rollout())
            ended.wait(PATIENCE)
            seen.append(current_rollout())

        threads.append(threading.Thread(target=work))
        threads[0].start()
        return ask(question=question)

    threads: list[threading.Thread] = []
    await rollout(leaves_a_thread, ScriptedLM(right))
    ended.set()
    threads[0].join(PATIENCE)
    assert [found is None for found in seen] == [False, True]
