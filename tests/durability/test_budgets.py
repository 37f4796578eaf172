"""Caps of the budget are kept, and end a run properly."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Budget, Channel, Governor, Optimizer, OptimizerConfig, OptimizerResult, Retry, Source
from simba_actors.errors import RunError
from simba_actors.events import BudgetForecast, BudgetReached, RunPaused, TrajectorySampled
from simba_actors.store import Reader
from simba_actors.store.queries import run_queries
from simba_actors.store.records import Spending
from simba_actors.strategies import AppendADemo, AppendARule
from simba_actors.team.messages import COORDINATOR
from tests.support.children import start_child
from tests.support.openai_server import Faults, OpenAIServer, lm_at
from tests.support.quiz import legible_script, quiz_script
from tests.support.runs import findings, finish, reach, small_config
from tests.support.scripted_lm import CallCounter, ScriptedLM, slow_after
from tests.support.seeded_loop import run_seeded, use_one_thread
from tests.support.waiting import PATIENCE, block_until, kill, until

PRICED = "openai/gpt-4o-mini"
"""A model with a price that DSPy knows."""


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(quiz_script, latency=0.01) as server:
        yield server


def config_for(address: str, store: Path, budget: Budget, **changes: Any) -> OptimizerConfig:
    lm, teacher = lm_at(address, model=PRICED), lm_at(address, model=PRICED, temperature=0.4)
    lms = {"lm": lm, "prompt_model": lm, "teacher_lm": teacher}
    retry = Governor(retry=Retry(base=0.01, longest=0.1))
    return small_config(store, run_id="run", policy="dspy", budget=budget, governor=retry, **lms, **changes)


async def live(address: str, store: Path, max_calls: int) -> None:
    await finish(config_for(address, store, Budget(max_calls=max_calls)))


@pytest.mark.parametrize("faults", [Faults(), Faults(rate_limited=0.2, server_error=0.1)], ids=["sound", "faulty"])
async def test_max_calls_is_never_passed(faults: Faults, tmp_path: Path) -> None:
    with OpenAIServer(quiz_script, faults=faults) as server:
        result = await finish(config_for(server.address, tmp_path / "simba.db", Budget(max_calls=20)))
    assert (server.calls, result.budget_reached) == (20, "max_calls")
    assert result.usage.calls == 20


class Twice(dspy.Module):
    """Makes two calls, so that a cap can end a rollout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.hint = dspy.Predict("question -> hint")
        self.answer = dspy.Predict("question, hint -> answer")

    async def aforward(self, question: str) -> Any:
        return await self.answer.acall(question=question, hint=(await self.hint.acall(question=question)).hint)


async def test_the_usage_of_a_run_has_the_calls_of_rollouts_that_were_cut_short(tmp_path: Path) -> None:
    lm = ScriptedLM(legible_script)
    changes: dict[str, Any] = {"lm": lm, "student": Twice(), "strategies": [AppendADemo()], "run_id": "run"}
    result = await finish(small_config(tmp_path / "simba.db", budget=Budget(max_calls=39), **changes))
    async with await Reader.open(tmp_path / "simba.db") as reader:
        counted, summary = await reader.spending("run"), await reader.ask(run_queries.summary, "run")
    assert len(lm.asks) == result.usage.calls == summary.usage.calls == counted.calls == 39
    assert result.usage.tokens == counted.tokens
    assert result.usage_by_lm["without_result"].calls % 2 == 1


async def test_each_of_several_completions_is_counted_if_it_takes_a_request_of_its_own(tmp_path: Path) -> None:
    lm, student = ScriptedLM(legible_script), dspy.Predict("question -> answer", n=3)
    changes: dict[str, Any] = {"lm": lm, "student": student, "strategies": [AppendADemo()]}
    result = await finish(small_config(tmp_path / "simba.db", budget=Budget(max_calls=62), **changes))
    assert (len(lm.asks), result.usage.calls, result.budget_reached) == (60, 60, "max_calls")


async def test_each_of_several_optimizers_keeps_to_its_own_budget(server: OpenAIServer, tmp_path: Path) -> None:
    lm, governor = server.lm(), Governor()

    async def run(max_calls: int) -> OptimizerResult:
        lms: dict[str, Any] = {"lm": lm, "prompt_model": lm, "governor": governor}
        budget = Budget(max_calls=max_calls)
        return await finish(small_config(tmp_path / "simba.db", run_id=f"{max_calls}", budget=budget, **lms))

    results = await asyncio.gather(*map(run, (10, 15, 20)))
    assert all(result.usage.calls <= cap for result, cap in zip(results, (10, 15, 20), strict=True))
    assert server.calls == 45


async def test_calls_of_a_judge_in_the_metric_count_as_any_other(server: OpenAIServer, tmp_path: Path) -> None:
    judge: Any = dspy.Predict("question, answer -> hint")

    async def judged(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
        return float(bool((await judge.acall(question=example.question, answer=prediction.answer)).hint))

    config = config_for(server.address, tmp_path / "simba.db", Budget(max_calls=21), metric=judged)
    result = await finish(config)
    assert (server.calls, result.budget_reached) == (21, "max_calls")


async def test_max_calls_is_never_passed_over_kills(server: OpenAIServer, tmp_path: Path) -> None:
    draws = random.Random(5)
    for _ in range(8):
        child = start_child(live, server.address, tmp_path / "simba.db", 40)
        calls = server.calls + draws.randrange(8)
        block_until(lambda child=child, calls=calls: server.calls >= calls or child.exitcode is not None)
        kill(child)
    result = await finish(config_for(server.address, tmp_path / "simba.db", Budget(max_calls=40)))
    print(f"{server.calls} calls of 40 sent over 9 lives")
    assert result.budget_reached == "max_calls"
    assert server.calls <= 40


class Blocking(dspy.Module):
    """A student that blocks the event loop while it calls its LM."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        return self.answer(question=question)


class InThread(dspy.Module):
    """A student without an `aforward`, which runs in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question)


async def live_with(student: type[dspy.Module], address: str, store: Path, max_calls: int) -> None:
    await finish(config_for(address, store, Budget(max_calls=max_calls), student=student()))


@pytest.mark.parametrize("student", [Blocking, InThread])
async def test_calls_in_threads_and_of_a_blocked_loop_are_not_lost_by_a_kill(
    student: type[dspy.Module], server: OpenAIServer, tmp_path: Path
) -> None:
    for _ in range(5):
        child = start_child(live_with, student, server.address, tmp_path / "simba.db", 20)
        calls = server.calls + 3
        block_until(lambda child=child, calls=calls: server.calls >= calls or child.exitcode is not None)
        kill(child)
        assert 3 <= server.calls <= (await spending_of(tmp_path / "simba.db")).calls <= 20
    config = config_for(server.address, tmp_path / "simba.db", Budget(max_calls=20), student=student())
    with contextlib.suppress(RunError):  # Such short lives may have ended no rollout.
        await finish(config)
    assert server.calls <= 20


@pytest.mark.parametrize("max_calls", [16, 20])
async def test_rules_that_are_being_written_when_a_cap_is_reached_are_kept(
    max_calls: int, server: OpenAIServer, tmp_path: Path
) -> None:
    with OpenAIServer(quiz_script, latency=0.2) as slow:
        lms = {"lm": server.lm(), "teacher_lm": server.lm(temperature=0.4), "prompt_model": slow.lm()}
        budget = Budget(max_calls=max_calls)
        config = small_config(tmp_path / "simba.db", strategies=[AppendARule()], budget=budget, **lms)
        result = await finish(config)
    assert slow.calls
    assert result.usage.calls == server.calls + slow.calls


async def test_a_run_cut_short_continues_with_a_larger_budget(server: OpenAIServer, tmp_path: Path) -> None:
    whole = config_for(server.address, tmp_path / "whole.db", Budget())
    assert (await finish(whole)).budget_reached is None
    for max_calls in (10, 30, 45):
        result = await finish(config_for(server.address, tmp_path / "cut.db", Budget(max_calls=max_calls)))
        assert result.budget_reached == "max_calls"
    await finish(config_for(server.address, tmp_path / "cut.db", Budget()))
    cut = await findings(config_for(server.address, tmp_path / "cut.db", Budget()), "run")
    assert cut == await findings(whole, "run")


async def test_a_run_whose_steps_were_planned_for_a_small_budget_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    """The adaptive policy spreads what the budget allows over all steps, so the cap itself is never reached."""

    async def use(max_calls: int) -> OptimizerResult:
        budget = Budget(max_calls=max_calls)
        return await finish(small_config(tmp_path / "simba.db", policy="adaptive", stop_when=None, budget=budget))

    first = await use(50)
    assert (first.reason, first.budget_reached) == ("all of its 2 steps are done", None)
    assert (await use(50)).usage == first.usage
    second = await use(150)
    assert 100 < second.usage.calls <= 150
    assert second.steps > first.steps
    assert (await use(150)).usage == second.usage


async def test_a_run_cut_short_gives_its_result_at_once_with_the_same_budget(
    server: OpenAIServer, tmp_path: Path
) -> None:
    config = config_for(server.address, tmp_path / "simba.db", Budget(max_calls=30))
    first, calls = await finish(config), server.calls
    assert (await finish(config)).score == first.score
    assert server.calls == calls


async def test_reaching_a_cap_is_an_event_and_the_status_says_how_to_continue(
    server: OpenAIServer, tmp_path: Path
) -> None:
    async with await Optimizer.start(config_for(server.address, tmp_path / "simba.db", Budget(max_calls=12))) as run:
        reached = await reach(run, BudgetReached)
        await run.result(PATIENCE)
        status = await run.status()
    assert (reached.cap, reached.limit) == ("max_calls", 12)
    assert (status.status, status.reason) == (
        "finished",
        "the budget's max_calls is reached: start the run with a larger one to continue it",
    )


@pytest.mark.parametrize(
    ("cap", "budget"), [("max_tokens", Budget(max_tokens=4000)), ("max_cost", Budget(max_cost=0.001))]
)
async def test_tokens_and_cost_are_passed_at_most_by_the_calls_in_flight(
    cap: str, budget: Budget, server: OpenAIServer, tmp_path: Path
) -> None:
    config = config_for(server.address, tmp_path / "simba.db", budget)
    result = await finish(config)
    used, limit = {
        "max_tokens": (result.usage.tokens, budget.max_tokens),
        "max_cost": (result.usage.cost, budget.max_cost),
    }[cap]
    assert result.budget_reached == cap
    assert used is not None
    assert limit is not None
    a_call = 2 * used / result.usage.calls
    # Below the limit, what is left is too little for the next call. One that writes a rule is many times as long.
    assert limit / 2 <= used <= limit + a_call * config.max_concurrency


class Chatty(dspy.Module):
    """A student that calls its LM many times in one rollout."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")
        self.calls = calls

    async def aforward(self, question: str) -> Any:
        for turn in range(self.calls - 1):
            await self.answer.acall(question=f"{question} ({turn})")
        return await self.answer.acall(question=question)


@pytest.mark.parametrize("budget", [Budget(max_tokens=2000), Budget(max_cost=0.0005)], ids=["tokens", "cost"])
async def test_one_long_rollout_does_not_pass_a_cap(budget: Budget, server: OpenAIServer, tmp_path: Path) -> None:
    config = config_for(server.address, tmp_path / "simba.db", budget, student=Chatty(200), max_concurrency=1)
    with pytest.raises(RunError, match=r"no program has a score yet: the budget's max_.* is reached"):
        await finish(config)
    assert server.calls < 40  # The first rollout alone would make 200.


async def test_an_lm_that_does_not_report_its_cost_pauses_a_run_with_max_cost(
    server: OpenAIServer, tmp_path: Path
) -> None:
    lm = server.lm()
    config = small_config(tmp_path / "simba.db", lm=lm, prompt_model=lm, budget=Budget(max_cost=1.0))
    async with await Optimizer.start(config) as optimizer:
        paused = await reach(optimizer, RunPaused)
    assert "does not say what its calls cost" in paused.reason
    assert server.calls <= 2 * config.max_concurrency


async def spending_of(store: Path) -> Spending:
    async with await Reader.open(store) as reader:
        return await reader.spending("run")


async def test_time_that_a_run_was_not_up_does_not_count_even_if_it_publishes(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "simba.db"
    await finish(config_for(server.address, store, Budget()))
    before = await spending_of(store)
    an_hour_later = time.time() + 3600
    async with await Channel.open(store, "default", clock=lambda: an_hour_later) as channel:
        await channel.publish(Source("run", 0), expected=0, reason="by hand")
    assert 0 < before.seconds < PATIENCE
    assert await spending_of(store) == before


async def test_a_wall_clock_that_jumps_is_not_time_that_the_run_was_up(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(server.address, tmp_path / "simba.db", Budget(max_seconds=PATIENCE))
    async with Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 7200)
        assert (await optimizer.result(PATIENCE)).budget_reached is None


async def test_calls_of_rollouts_without_a_result_are_kept(tmp_path: Path) -> None:
    with OpenAIServer(quiz_script) as server:
        config = config_for(server.address, tmp_path / "simba.db", Budget(max_calls=40), student=Chatty(1000))
        with pytest.raises(RunError, match="no program has a score yet"):
            await finish(config)
    spent = await spending_of(tmp_path / "simba.db")
    assert (spent.calls, server.calls) == (40, 40)
    assert spent.tokens > 0


async def test_max_seconds_ends_a_run_whose_calls_take_long(tmp_path: Path) -> None:
    async with Optimizer.start(hanging(tmp_path / "simba.db", Budget(), after=1)) as optimizer:
        await reach(optimizer, TrajectorySampled)  # Without a score there would be no result.
    up = (await spending_of(tmp_path / "simba.db")).seconds
    result = await finish(hanging(tmp_path / "simba.db", Budget(max_seconds=up + 0.5), after=0, seconds=1.0))
    assert result.budget_reached == "max_seconds"


def hanging(store: Path, budget: Budget, *, after: int, seconds: float = 3600.0) -> OptimizerConfig:
    """Return the config of a run whose calls take long after the first ones."""
    lm = ScriptedLM(quiz_script, latency=slow_after(after, seconds))
    return small_config(store, run_id="run", lm=lm, budget=budget)


async def test_max_seconds_ends_a_run_whose_coordinator_crashed_while_calls_hang(tmp_path: Path) -> None:
    calls = CallCounter()
    lm = ScriptedLM(quiz_script, latency=slow_after(0), callbacks=[calls])
    config = small_config(tmp_path / "simba.db", lm=lm, budget=Budget(max_seconds=1.0))
    async with await Optimizer.start(config) as optimizer:
        await until(lambda: calls.made)
        coordinator = optimizer._run.teammates.registry.whereis(COORDINATOR)
        assert coordinator is not None
        coordinator.kill()
        assert (await reach(optimizer, BudgetReached)).cap == "max_seconds"


async def test_the_first_step_gives_a_forecast_of_the_whole_run(server: OpenAIServer, tmp_path: Path) -> None:
    async with await Optimizer.start(config_for(server.address, tmp_path / "simba.db", Budget())) as optimizer:
        forecast = await reach(optimizer, BudgetForecast)
        usage = (await optimizer.result(PATIENCE)).usage
    assert forecast.tokens is not None
    assert forecast.cost is not None
    assert usage.cost is not None
    assert 0.5 * usage.calls <= forecast.calls <= 2 * usage.calls
    assert 0.5 * usage.cost <= forecast.cost <= 2 * usage.cost
    assert forecast.seconds is not None
    assert forecast.seconds > 0


@pytest.mark.parametrize(("steps", "max_calls"), [(1, None), (2, None), (4, None), (4, 60)])
async def test_a_forecast_of_the_adaptive_policy_is_close_to_what_the_run_makes(
    steps: int, max_calls: int | None, tmp_path: Path
) -> None:
    budget = Budget(max_calls=max_calls)
    changes: dict[str, Any] = {"policy": "adaptive", "bsize": 8, "max_steps": steps, "stop_when": None}
    config = small_config(tmp_path / "simba.db", budget=budget, **changes)
    async with await Optimizer.start(config) as optimizer:
        forecast = await reach(optimizer, BudgetForecast)
        calls = (await optimizer.result(PATIENCE)).usage.calls
    assert 0.7 * calls <= forecast.calls <= 1.4 * calls


def test_a_forecast_does_not_depend_on_when_final_rollouts_come_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_one_thread(monkeypatch)

    async def forecast_of(salt: int) -> BudgetForecast:
        lm = ScriptedLM(quiz_script, latency=lambda ask: ask.chance("seconds", salt))
        config = small_config(tmp_path / f"{salt}.db", lm=lm, prompt_model=lm)
        async with await Optimizer.start(config) as optimizer:
            return await reach(optimizer, BudgetForecast)

    forecasts = [run_seeded(salt, forecast_of(salt)) for salt in range(16)]
    assert len({(forecast.calls, forecast.tokens) for forecast in forecasts}) == 1


async def test_a_forecast_does_not_take_an_unknown_cost_for_zero(tmp_path: Path) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        assert (await reach(optimizer, BudgetForecast)).cost is None
