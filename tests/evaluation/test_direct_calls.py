"""Students and metrics that call `lm.forward` or `lm.aforward` themselves, past the LM's own call."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import dspy
import pytest

from simba_actors.errors import BudgetReachedError, LMUnavailableError
from simba_actors.evaluation.executor import LocalExecutor, RolloutTask
from simba_actors.lm.budget import Budget, BudgetTracker
from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.retry import Retry
from simba_actors.programs import ConfigurationSpace
from simba_actors.search.rollout import Trajectory
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import questions
from tests.support.scripted_lm import ScriptedLM

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")

RIGHT = questions(1)[0].answer


class Custom(dspy.BaseLM):
    """A custom LM, which answers the prompt with `text`. Fails the first `faults` calls."""

    def __init__(self, text: str = RIGHT, faults: int = 0) -> None:
        super().__init__("custom/lm")
        self.text, self.faults = text, faults
        self.sent: list[Any] = []

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        self.sent.append(prompt or messages)
        if len(self.sent) <= self.faults:
            raise dspy.LMServerError("down")
        text = self.text if prompt else f"[[ ## answer ## ]]\n{self.text}\n\n[[ ## completed ## ]]"
        choice = SimpleNamespace(message=SimpleNamespace(content=text), finish_reason="stop")
        return SimpleNamespace(choices=[choice], usage={"prompt_tokens": 3, "completion_tokens": 2}, model="custom")

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return self.forward(prompt, messages, **kwargs)


class Wrapped(dspy.BaseLM):
    """A custom LM that passes its calls on to another one."""

    def __init__(self, inner: Any) -> None:
        super().__init__("wrapped/lm")
        self.inner = inner

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return self.inner.forward(prompt, messages, **kwargs)


def text_of(response: Any) -> str:
    return response.choices[0].message.content


class Direct(dspy.Module):
    """Asks an LM directly after its predictor, in one of several ways."""

    def __init__(self, way: str, lm: Any = None) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.way = way
        self.lms = [] if lm is None else [lm]

    async def aforward(self, question: str) -> Any:
        first = await self.ask.acall(question=question)
        lm: Any = self.lms[0] if self.lms else dspy.settings.lm
        match self.way:
            case "forward":
                response = await asyncio.to_thread(lm.forward, question)
            case "forward on the loop":
                response = lm.forward(prompt=question)
            case "aforward":
                response = await lm.aforward(question)
            case "aforward in a thread":
                response = await asyncio.to_thread(lambda: asyncio.run(lm.aforward(prompt=question)))
            case _:
                response = await lm.aforward(messages=[{"role": "user", "content": question}])
                return dspy.Prediction(answer=first.answer, length=len(text_of(response)))
        return dspy.Prediction(answer=text_of(response))


WAYS = ["forward", "forward on the loop", "aforward", "aforward in a thread", "messages"]


async def rollout(student: Any, lm: Any, *, metric: Any = None, max_calls: int = 100) -> tuple[Trajectory, int]:
    """Return the trajectory, and how many calls the budget counted."""
    tracker = BudgetTracker(Budget(max_calls=max_calls))
    caller = Caller(before_call=tracker.before_call, before_blocking_call=tracker.before_blocking_call)
    space = ConfigurationSpace.from_module(student)
    executor = LocalExecutor(
        student=student,
        space=space,
        examples={"train": questions(1)},
        metric=metric or (lambda example, prediction: float(example.answer == prediction.answer)),
        lms={"student": lm},
        governor=Governor(retry=Retry(base=0.001, attempts=3)),
        caller=caller,
    )
    return await executor.run(RolloutTask(space.extract(student), 0)), tracker.calls


@pytest.mark.parametrize("way", WAYS)
async def test_each_direct_call_is_counted_once(way: str) -> None:
    lm = Custom()
    trajectory, counted = await rollout(Direct(way), lm)
    assert (trajectory.score, trajectory.error, len(lm.sent)) == (1.0, None, 2)
    assert (counted, trajectory.usage.calls, trajectory.usage.tokens) == (2, 2, 10)


@pytest.mark.parametrize("way", WAYS)
async def test_a_direct_call_of_an_lm_that_the_student_holds_is_counted_once(way: str) -> None:
    own = Custom()
    trajectory, counted = await rollout(Direct(way, own), ScriptedLM(lambda ask: {"answer": RIGHT}))
    assert (trajectory.score, trajectory.error, len(own.sent)) == (1.0, None, 1)
    assert (counted, trajectory.usage.calls) == (2, 2)


@pytest.mark.parametrize("way", WAYS)
async def test_a_direct_call_is_not_sent_beyond_the_budget(way: str) -> None:
    lm = Custom()
    with pytest.raises(BudgetReachedError):
        await rollout(Direct(way), lm, max_calls=1)
    assert len(lm.sent) == 1


@pytest.mark.parametrize("way", ["forward", "aforward"])
async def test_a_direct_call_is_made_again_when_it_fails(way: str) -> None:
    lm, own = Custom(), Custom(faults=2)
    trajectory, counted = await rollout(Direct(way, own), lm)
    assert (trajectory.score, len(own.sent), counted) == (1.0, 3, 4)


@pytest.mark.parametrize("way", WAYS)
async def test_an_outage_is_no_score(way: str) -> None:
    with pytest.raises(LMUnavailableError, match="down"):
        await rollout(Direct(way, Custom(faults=99)), Custom())


async def test_a_direct_call_of_a_metric_is_counted() -> None:
    judge = Custom("1")

    def metric(example: Any, prediction: Any) -> float:
        return float(text_of(judge.forward(f"Is {prediction.answer} right?")))

    trajectory, counted = await rollout(dspy.Predict("question -> answer"), Custom(), metric=metric)
    assert (trajectory.score, trajectory.usage.calls, counted, len(judge.sent)) == (1.0, 2, 2, 1)


async def test_an_lm_that_passes_its_calls_on_to_another_is_counted_once() -> None:
    inner = Custom()
    trajectory, counted = await rollout(dspy.Predict("question -> answer"), Wrapped(inner))
    assert (trajectory.score, trajectory.usage.calls, counted, len(inner.sent)) == (1.0, 1, 1, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_an_lm_of_dspy_over_http_reports_what_it_used(way: str) -> None:
    with OpenAIServer(lambda ask: RIGHT if not ask.fields else {"answer": RIGHT}) as server:
        lm = server.lm(cache=False)
        trajectory, counted = await rollout(Direct(way), lm)
        requests = len(server.headers)
    assert (trajectory.score, counted, requests, trajectory.usage.calls) == (1.0, 2, 2, 2)
    assert trajectory.usage.tokens
