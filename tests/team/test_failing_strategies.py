"""A strategy that fails makes no candidate, and the run goes on without."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from simba_actors import Optimizer
from simba_actors.events import StrategyDeclined
from simba_actors.programs import Configuration
from simba_actors.strategies import Declined, StrategyContext
from tests.support.runs import reach, small_config


class Failing:
    """Makes what `make` gives, or raises what it raises."""

    name = "failing"

    def __init__(self, make: Callable[[Configuration], Awaitable[Configuration]]) -> None:
        self.make = make

    def applicable(self, context: StrategyContext) -> Declined | None:
        return None

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        return await self.make(context.source)


async def cancels_its_own(source: Configuration) -> Configuration:
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    task.cancel()
    await task
    return source


async def exits(source: Configuration) -> Configuration:
    sys.exit("enough")


@pytest.mark.parametrize(("make", "told"), [(cancels_its_own, "CancelledError"), (exits, "SystemExit")])
async def test_a_cancellation_or_an_exit_of_its_own_is_such_a_failure(
    make: Callable[[Configuration], Awaitable[Configuration]], told: str, tmp_path: Path
) -> None:
    config = small_config(tmp_path / "simba.db", strategies=[Failing(make)])
    async with await Optimizer.start(config) as optimizer:
        declined = await reach(optimizer, StrategyDeclined)
        await optimizer.result()
    assert told in declined.reason
