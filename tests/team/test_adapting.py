"""Changes that the search makes to its own parameters are events, and survive a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simba_actors import Optimizer, OptimizerConfig
from simba_actors.events import ParameterAdapted, StepClosed
from simba_actors.store import Reader
from tests.support.quiz import questions
from tests.support.runs import findings, finish, reach, small_config


def quiet(example: Any, prediction: Any) -> float:
    return 0.25


def quiet_config(store: Path) -> OptimizerConfig:
    sizes: dict[str, Any] = {"bsize": 16, "num_candidates": 4, "max_steps": 4, "max_concurrency": 16, "stop_when": None}
    return small_config(store, policy="adaptive", metric=quiet, trainset=questions(16), run_id="run", **sizes)


async def test_each_change_is_an_event_with_its_reason_and_holds_after_a_restart(tmp_path: Path) -> None:
    whole, cut = quiet_config(tmp_path / "whole.db"), quiet_config(tmp_path / "cut.db")
    await finish(whole)
    async with await Reader.open(whole.store) as reader:
        adapted = [event for event in await reader.events("run", limit=10_000) if isinstance(event, ParameterAdapted)]
    assert [(event.parameter, event.before, event.after) for event in adapted] == [("rollouts_per_candidate", 16, 10)]
    assert adapted[0].reason == "the noise of a score is at most 0.17 on a scale from 0 to 1, by 61 pairs of rollouts"
    async with await Optimizer.start(cut) as optimizer:
        await reach(optimizer, ParameterAdapted)
        await reach(optimizer, StepClosed)
    await finish(cut)
    assert await findings(cut, "run") == await findings(whole, "run")
