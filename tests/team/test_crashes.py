"""Whatever actor is killed in a run, its end is the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Optimizer, OptimizerConfig
from simba_actors.actors import ActorError
from simba_actors.events import (
    BucketsAnalyzed,
    CandidateProposed,
    Event,
    StepClosed,
    StepOpened,
    TrajectorySampled,
)
from simba_actors.team.coordinator import Coordinator
from simba_actors.team.tree import TEAM
from tests.support.runs import findings, finish, small_config

PHASES = (StepOpened, TrajectorySampled, BucketsAnalyzed, CandidateProposed, StepClosed)
"""The event that each phase of a step begins or ends with."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The findings of a run that nothing befell."""
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
        async for event in optimizer.events():
            if isinstance(event, phase):
                break
        ref = optimizer._setup.registry.whereis(name)
        assert ref is not None
        ref.kill()
        await optimizer.result()
        assert (await optimizer.status()).restarts[name] == 1
    assert await findings(config, optimizer.run_id) == expected


async def test_an_error_whose_reason_is_a_text_is_told_as_why_a_run_did_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def init(self: Coordinator) -> None:
        b"\xff".decode()

    monkeypatch.setattr(Coordinator, "init", init)
    with pytest.raises(ActorError, match="invalid start byte"):
        await Optimizer.start(small_config(tmp_path / "simba.db"))
