"""A run that was stopped continues as if it had not been."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from simba_actors import Optimizer
from simba_actors.errors import RunStoppedError
from simba_actors.events import StepClosed, TrajectorySampled
from tests.support.runs import asks_of, findings, finish, reach, small_config
from tests.support.waiting import PATIENCE


@pytest.mark.parametrize("kind", [TrajectorySampled, StepClosed])
async def test_a_run_stopped_within_or_between_steps_ends_as_if_it_had_not_been(kind: type, tmp_path: Path) -> None:
    whole = small_config(tmp_path / "whole.db")
    expected = await findings(whole, (await finish(whole)).run_id)
    config = small_config(tmp_path / "stopped.db")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, kind)
    result = await finish(config)
    assert await findings(config, result.run_id) == expected


async def test_the_result_of_a_stopped_run_is_an_error_that_says_how_to_continue(tmp_path: Path) -> None:
    optimizer = await Optimizer.start(small_config(tmp_path / "simba.db"))
    await optimizer.stop()
    with pytest.raises(RunStoppedError, match="start it again to continue"):
        await optimizer.result(PATIENCE)


@pytest.mark.parametrize("ask", [Optimizer.pause, Optimizer.resume])
async def test_a_stopped_run_can_not_be_paused_or_resumed(
    ask: Callable[[Optimizer], Awaitable[None]], tmp_path: Path
) -> None:
    optimizer = await Optimizer.start(small_config(tmp_path / "simba.db"))
    await optimizer.stop()
    with pytest.raises(RunStoppedError, match="start it again to continue"):
        await ask(optimizer)


async def test_a_finished_run_gives_its_result_at_once(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    first = await finish(config)
    asks = len(asks_of(config.lm))
    second = await finish(config)
    assert (second.score, len(asks_of(config.lm))) == (first.score, asks)
