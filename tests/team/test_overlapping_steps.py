"""Runs of the adaptive policy that have two steps open at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Budget, Optimizer, OptimizerConfig
from simba_actors.events import Event, StepClosed, StepOpened
from simba_actors.search.adaptive import policy
from simba_actors.store import Reader
from simba_actors.strategies import AppendADemo, AppendARule, Recombine
from tests.support.quiz import questions, quiz_script
from tests.support.runs import events_of, findings, finish, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.seeded_loop import run_seeded, use_one_thread

AT_ONCE = 2
"""Steps that are open at a time, of eight in all."""


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have two steps open in runs that are short enough for a test, unless their rollouts run one by one."""

    def steps_at_once(concurrency: int, *_: int) -> int:
        return AT_ONCE if concurrency > 1 else 1

    monkeypatch.setattr(policy, "steps_at_once", steps_at_once)


def overlapping_config(store: Path, **changes: Any) -> OptimizerConfig:
    settings: dict[str, Any] = {
        "policy": "adaptive",
        "trainset": questions(16),
        "bsize": 6,
        "max_steps": 24,
        "max_concurrency": 32,
        "budget": Budget(max_calls=120),
        "stop_when": None,
        "run_id": "run",
        "strategies": [AppendADemo(), AppendARule(), Recombine()],
    }
    return small_config(store, **{**settings, **changes})


async def whole_run(config: OptimizerConfig) -> list[Event]:
    """Run to the end, and return the events."""
    async with await Optimizer.start(config) as optimizer:
        return await events_of(optimizer, Event)


async def part_of_run(config: OptimizerConfig, closed: int) -> None:
    """Run until this many steps are closed, and stop."""
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, StepClosed, lambda event: event.step == closed - 1)


def late(salt: int) -> ScriptedLM:
    """Return an LM that takes up to 20 ms for a reply, by the salt."""
    return ScriptedLM(quiz_script, latency=lambda ask: 0.02 * ask.chance(salt))


async def test_a_second_step_is_open_once_the_first_one_has_closed(tmp_path: Path) -> None:
    events = await whole_run(overlapping_config(tmp_path / "simba.db"))
    steps = [event for event in events if isinstance(event, StepOpened | StepClosed)]
    order = [("opened" if isinstance(event, StepOpened) else "closed", event.step) for event in steps]
    last = order[-1][1]
    expected = [("opened", 0), ("closed", 0), ("opened", 1), ("opened", 2)]
    for step in range(1, last + 1):
        expected += [("closed", step)] + [("opened", step + AT_ONCE)] * (step + AT_ONCE <= last)
    assert order == expected
    assert last >= 5


async def test_the_result_does_not_depend_on_how_long_replies_take(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    for salt in (1, 2):
        config = overlapping_config(tmp_path / f"{salt}.db", lm=late(salt), prompt_model=late(salt + 10))
        await finish(config)
        found.append(await findings(config, "run"))
    assert found[0] == found[1]


async def test_a_run_keeps_its_number_of_open_steps_when_it_is_resumed_with_another_concurrency(tmp_path: Path) -> None:
    # Calls that are in flight when a run stops are made again, and would count twice against a budget.
    sizes: dict[str, Any] = {"budget": Budget(), "max_steps": 6}
    whole = overlapping_config(tmp_path / "whole.db", **sizes)
    await finish(whole)
    store = tmp_path / "stopped.db"
    config = overlapping_config(store, **sizes)
    await part_of_run(config, closed=3)
    await finish(overlapping_config(store, max_concurrency=1, **sizes))
    assert await findings(config, "run") == await findings(whole, "run")
    async with await Reader.open(store) as reader:
        assert (await reader.run("run")).settings["steps_at_once"] == AT_ONCE


async def test_once_the_search_is_stopped_open_steps_are_finished_and_none_is_opened(tmp_path: Path) -> None:
    config = overlapping_config(tmp_path / "simba.db", stop_when=lambda progress: progress.step == 3)
    closed = [event.step for event in await whole_run(config) if isinstance(event, StepClosed)]
    assert closed == [0, 1, 2, 3]


async def test_a_resumed_run_knows_that_its_search_was_stopped(tmp_path: Path) -> None:
    """The run was stopped after step 2, and after step 3 the rule would let it continue."""
    config = overlapping_config(tmp_path / "simba.db", stop_when=lambda progress: progress.step == 3)
    await part_of_run(config, closed=4)
    closed = [event.step for event in await whole_run(config) if isinstance(event, StepClosed)]
    assert closed == [0, 1, 2, 3]


def test_other_rollouts_do_not_wait_while_rules_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule takes an hour of the virtual clock. While those of the second step are written, the samples and the
    candidates with demos of both open steps run."""
    rule, called = 3_600.0, list[float]()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def latency(ask: Ask) -> float:
            if "module_advice" in ask.fields:
                return rule
            called.append(loop.time())
            return 1.0

        lm = ScriptedLM(quiz_script, latency=latency)
        config = overlapping_config(tmp_path / "simba.db", lm=lm, prompt_model=lm, rollout_timeout=2 * rule)
        async with await Optimizer.start(config) as optimizer:
            async for event in optimizer.events():  # Its virtual clock needs no bound, and an hour passes on it.
                if isinstance(event, StepClosed) and event.step == 1:
                    return

    use_one_thread(monkeypatch)
    run_seeded(0, main())
    samples = 8
    assert sum(rule < at < 2 * rule for at in called) > AT_ONCE * samples
