"""Whole runs that keep to a budget, as the server counts the calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Budget, Optimizer, OptimizerConfig
from simba_actors.errors import RunError
from simba_actors.store import Reader
from simba_actors.strategies import AppendADemo, AppendARule
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import quiz_script
from tests.support.runs import finish, small_config
from tests.support.waiting import PATIENCE

PRICED = "openai/gpt-4o-mini"
"""A model whose price DSPy knows."""


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(quiz_script, latency=0.005) as server:
        yield server


class Turns(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")


class OnLoop(Turns):
    """Calls its LM 200 times in one rollout, awaiting each call."""

    async def aforward(self, question: str) -> Any:
        for turn in range(199):
            await self.answer.acall(question=f"{question} ({turn})")
        return await self.answer.acall(question=question)


class InThread(Turns):
    """Does the same without an async side."""

    def forward(self, question: str) -> Any:
        for turn in range(199):
            self.answer(question=f"{question} ({turn})")
        return self.answer(question=question)


class Blocking(Turns):
    """Does the same while it blocks the event loop."""

    async def aforward(self, question: str) -> Any:
        for turn in range(199):
            self.answer(question=f"{question} ({turn})")
        return self.answer(question=question)


class AtOnce(Turns):
    """Makes the calls at once, many more than rollouts are in flight."""

    async def aforward(self, question: str) -> Any:
        answers = await asyncio.gather(*(self.answer.acall(question=f"{question} ({turn})") for turn in range(200)))
        return answers[0]


@pytest.mark.parametrize("kind", [OnLoop, InThread, Blocking, AtOnce])
@pytest.mark.parametrize("budget", [Budget(max_tokens=4000), Budget(max_cost=0.001)], ids=["tokens", "cost"])
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_long_rollouts_pass_a_cap_at_most_by_the_calls_in_flight(
    concurrency: int, budget: Budget, kind: Callable[[], Any], server: OpenAIServer, tmp_path: Path
) -> None:
    lm = server.lm(model=PRICED)
    config = small_config(
        tmp_path / "simba.db",
        run_id="run",
        lm=lm,
        prompt_model=lm,
        student=kind(),
        budget=budget,
        max_concurrency=concurrency,
    )
    with contextlib.suppress(RunError):  # No rollout has ended, so there is no score.
        await finish(config)
    async with await Reader.open(config.store) as reader:
        spent = await reader.spending("run")
    used, limit = (spent.tokens, budget.max_tokens) if budget.max_tokens else (spent.cost, budget.max_cost)
    assert limit is not None
    assert used <= limit + concurrency * 2 * used / server.calls  # No call uses twice the mean.


@pytest.mark.parametrize("kind", [OnLoop, InThread, Blocking])
async def test_a_first_burst_that_would_pass_the_cap_is_not_sent(
    kind: Callable[[], Any], server: OpenAIServer, tmp_path: Path
) -> None:
    lm = server.lm(max_tokens=5000)
    config = small_config(
        tmp_path / "simba.db", lm=lm, student=kind(), budget=Budget(max_tokens=4000), max_concurrency=16
    )
    with pytest.raises(RunError, match="max_tokens"):
        await finish(config)
    assert server.calls == 0


def judged(server: OpenAIServer, store: Path, **changes: Any) -> OptimizerConfig:
    """Return a config whose metric calls a judge, an LM of its own, and whose strategies write rules."""
    judge, judging_lm = dspy.Predict("question -> answer"), server.lm(model="openai/judge")

    async def metric(example: Any, prediction: Any) -> float:
        with dspy.context(lm=judging_lm):
            opinion: Any = await judge.acall(question=example.question)
        return float(opinion.answer == prediction.answer)

    lm = server.lm()
    strategies = [AppendARule(), AppendADemo()]
    return small_config(store, lm=lm, prompt_model=lm, metric=metric, strategies=strategies, **changes)


async def test_two_runs_of_one_loop_keep_to_the_budget_each(server: OpenAIServer, tmp_path: Path) -> None:
    budget = Budget(max_calls=25)
    configs = [judged(server, tmp_path / "simba.db", run_id=name, budget=budget, seed=n) for n, name in enumerate("ab")]
    async with Optimizer.start(configs[0]) as first, Optimizer.start(configs[1]) as second:
        results = await asyncio.gather(first.result(PATIENCE), second.result(PATIENCE))
    assert [result.budget_reached for result in results] == ["max_calls", "max_calls"]
    assert server.calls <= 50


@pytest.mark.parametrize("max_calls", [17, 23, 40])
async def test_max_calls_counts_judges_and_rule_writers(max_calls: int, server: OpenAIServer, tmp_path: Path) -> None:
    result = await finish(judged(server, tmp_path / "simba.db", budget=Budget(max_calls=max_calls)))
    assert result.budget_reached == "max_calls"
    assert server.calls <= max_calls


class CallsOthers(dspy.Module):
    """Calls one LM that it was given in a context, and another that it keeps."""

    def __init__(self, cheap: dspy.LM, own: dspy.LM) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")
        self.rewrite = dspy.Predict("question -> hint")
        self.cheap, self.own = cheap, own

    def forward(self, question: str) -> Any:
        with dspy.context(lm=self.cheap):
            self.rewrite(question=question)
        self.own(question)
        return self.answer(question=question)


class CallsOthersOnLoop(CallsOthers):
    async def aforward(self, question: str) -> Any:
        with dspy.context(lm=self.cheap):
            await self.rewrite.acall(question=question)
        await self.own.acall(question)
        return await self.answer.acall(question=question)


@pytest.mark.parametrize("kind", [CallsOthers, CallsOthersOnLoop])
async def test_lms_that_are_not_a_predictors_count_against_max_calls(
    kind: Callable[..., Any], server: OpenAIServer, tmp_path: Path
) -> None:
    student = kind(server.lm(model="openai/cheap"), server.lm(model="openai/own"))
    result = await finish(judged(server, tmp_path / "simba.db", student=student, budget=Budget(max_calls=60)))
    assert result.budget_reached == "max_calls"
    assert server.calls <= 60
