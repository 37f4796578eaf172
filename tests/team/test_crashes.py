"""A run ends with the same result, whichever of its actors is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from dspy.utils.exceptions import LMAuthError

from simba_actors import Budget, Optimizer, OptimizerConfig
from simba_actors.actors import ActorError
from simba_actors.errors import RunError, StoreError
from simba_actors.events import (
    BucketsAnalyzed,
    CandidateProposed,
    Event,
    RunPaused,
    StepClosed,
    StepOpened,
    TrajectorySampled,
)
from simba_actors.hosting.assembly import TEAM
from simba_actors.team.coordinator import Coordinator
from simba_actors.team.messages import PROPOSER, SAMPLER, Drained, Unreachable
from tests.support.crashing import InjectedCrashError
from tests.support.limits import no_new_threads
from tests.support.quiz import quiz_script
from tests.support.runs import findings, finish, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import PATIENCE

PHASES = (StepOpened, TrajectorySampled, BucketsAnalyzed, CandidateProposed, StepClosed)
"""For each phase of a step, an event at its beginning or end."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The findings of an undisturbed run."""
    config = small_config(tmp_path_factory.mktemp("undisturbed") / "simba.db")
    return asyncio.run(findings_of(config))


async def findings_of(config: OptimizerConfig) -> dict[str, Any]:
    return await findings(config, (await finish(config)).run_id)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", TEAM)
async def test_an_actor_that_is_killed_in_any_phase_is_restarted_and_the_run_ends_the_same(
    name: str, phase: type[Event], expected: dict[str, Any], tmp_path: Path
) -> None:
    config = small_config(tmp_path / "simba.db")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, phase)
        ref = optimizer._run.teammates.registry.whereis(name)
        assert ref is not None
        ref.kill()
        await optimizer.result(PATIENCE)
        assert (await optimizer.status()).restarts[name] == 1
    assert await findings(config, optimizer.run_id) == expected


async def test_an_error_whose_reason_is_a_string_is_raised_by_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def init(self: Coordinator) -> None:
        b"\xff".decode()

    monkeypatch.setattr(Coordinator, "init", init)
    with pytest.raises(ActorError, match="invalid start byte"):
        await Optimizer.start(small_config(tmp_path / "simba.db"))


async def test_an_outage_that_a_crashed_coordinator_missed_pauses_the_run(
    expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, heard, down = Coordinator.handle_cast, list[Unreachable](), True

    async def crashing(coordinator: Coordinator, message: Any) -> Any:
        if isinstance(message, Unreachable):
            heard.append(message)
            if len(heard) == 1:
                raise InjectedCrashError("at the news of an outage")
        return await handle(coordinator, message)

    def script(ask: Ask) -> Any:
        if down:
            raise LMAuthError("no such key")
        return quiz_script(ask)

    monkeypatch.setattr(Coordinator, "handle_cast", crashing)
    config = small_config(tmp_path / "simba.db", lm=ScriptedLM(script), max_concurrency=1)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, RunPaused)
        assert (await optimizer.status()).restarts == {"coordinator": 1}
        down = False
        await optimizer.resume()
        await optimizer.result(PATIENCE)
    assert await findings(config, optimizer.run_id) == expected


@pytest.mark.parametrize("actor", [SAMPLER, PROPOSER])
async def test_a_run_whose_coordinator_crashes_after_its_budget_is_spent_still_ends(
    actor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, crashes = Coordinator.handle_cast, list[Drained]()

    async def crashing(coordinator: Coordinator, message: Any) -> Any:
        if isinstance(message, Drained) and message.by == actor and not crashes:
            crashes.append(message)
            raise InjectedCrashError(f"at the news that the {actor} is drained")
        return await handle(coordinator, message)

    monkeypatch.setattr(Coordinator, "handle_cast", crashing)
    result = await finish(small_config(tmp_path / "simba.db", budget=Budget(max_calls=20)))
    assert (len(crashes), result.budget_reached) == (1, "max_calls")


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
async def test_a_run_needs_no_new_thread_to_plan_its_steps_and_choose_its_winner(policy: str, tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", policy=policy, max_concurrency=1)
    async with Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        with no_new_threads():
            await asyncio.wait([optimizer._hosted.outcome], timeout=PATIENCE)
            with pytest.raises(StoreError, match="the process can't start a thread: raise the limit"):
                await optimizer.status()
        assert (await optimizer.status()).status == "finished"
        assert (await optimizer.status()).restarts == {}


async def test_a_process_that_can_start_no_thread_says_so_at_the_start(tmp_path: Path) -> None:
    with no_new_threads(), pytest.raises(RunError, match="raise the limit of its threads"):
        await Optimizer.start(small_config(tmp_path / "simba.db"))
