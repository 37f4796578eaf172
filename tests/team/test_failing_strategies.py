"""A strategy that fails makes no candidate, and the run continues."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from simba_actors import Optimizer
from simba_actors.events import StrategyDeclined
from simba_actors.programs import Configuration
from simba_actors.store import Reader
from simba_actors.strategies import Declined, StrategyContext
from tests.support.runs import finish, reach, small_config
from tests.support.waiting import PATIENCE


class Failing:
    """A strategy whose proposal is what `make` returns or raises."""

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


async def makes_what_is_no_json(source: Configuration) -> Configuration:
    return source.with_demos(source.predictors[0], [{"question": {1, 2}}])  # pyright: ignore[reportArgumentType]


async def raises_half_a_pair(source: Configuration) -> Configuration:
    raise ValueError("half a pair: \ud83d")


CASES = [
    (cancels_its_own, "CancelledError"),
    (exits, "SystemExit"),
    (makes_what_is_no_json, "NotJSONError"),
    (raises_half_a_pair, "half a pair"),
]


@pytest.mark.parametrize(("make", "message"), CASES)
async def test_its_error_is_the_reason_why_it_made_nothing(
    make: Callable[[Configuration], Awaitable[Configuration]], message: str, tmp_path: Path
) -> None:
    config = small_config(tmp_path / "simba.db", strategies=[Failing(make)])
    async with await Optimizer.start(config) as optimizer:
        declined = await reach(optimizer, StrategyDeclined)
        await optimizer.result(PATIENCE)
    assert message in declined.reason


async def fails_each_time_in_other_words(source: Configuration) -> Configuration:
    raise ValueError(f"words number {next(NUMBERS)}")


NUMBERS = count()


async def test_a_strategy_that_always_fails_is_logged_once_and_summed_up_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = await finish(small_config(tmp_path / "simba.db", strategies=[Failing(fails_each_time_in_other_words)]))
    async with await Reader.open(tmp_path / "simba.db") as reader:
        declined = [e for e in await reader.events(result.run_id) if isinstance(e, StrategyDeclined)]
    logged = [record.getMessage() for record in caplog.records if "strategy failing failed" in record.getMessage()]
    assert len(declined) > 2
    assert len(logged) == 2
    assert "words number" in logged[0]
    assert logged[1] == f"strategy failing failed {len(declined)} times with ValueError"
