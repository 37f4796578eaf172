"""A strategy that fails makes no candidate, and the run continues."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from dspy.utils.exceptions import LMInvalidRequestError, LMServerError

from simba_actors import Governor, Optimizer, Retry
from simba_actors.errors import RunPausedError
from simba_actors.events import StrategyDeclined
from simba_actors.programs import Configuration
from simba_actors.store import Reader
from simba_actors.strategies import Declined, StrategyContext
from tests.support.quiz import quiz_script
from tests.support.runs import events_of, finish, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
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


@pytest.mark.parametrize(
    "error", [LMServerError("no rule about it"), LMInvalidRequestError("no rule about it", status=400)]
)
async def test_a_rule_that_the_prompt_model_never_answers_is_left_out_while_it_answers_others(
    error: Exception, tmp_path: Path
) -> None:
    def picky(ask: Ask) -> Any:
        if "ball 3?" in ask.prompt:
            raise error
        return quiz_script(ask)

    # It may be the first rule that is asked for, before it is known that the prompt model answers any.
    sizes: dict[str, Any] = {"policy": "adaptive", "bsize": 8, "max_steps": 4, "resume_after": 0.01}
    governor = Governor(retry=Retry(base=0.001, longest=0.001, attempts=3))
    config = small_config(tmp_path / "simba.db", prompt_model=ScriptedLM(picky), governor=governor, **sizes)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        declined = await events_of(optimizer, StrategyDeclined)
    assert any("no rule about it" in event.reason for event in declined)


async def test_a_prompt_model_that_has_answered_no_rule_pauses_the_run_though_its_endpoint_answers(
    tmp_path: Path,
) -> None:
    def strict(ask: Ask) -> Any:
        raise LMInvalidRequestError("not with these settings", status=400)

    config = small_config(tmp_path / "simba.db", prompt_model=ScriptedLM(strict), policy="adaptive", bsize=8)
    async with Optimizer.start(config) as optimizer:
        with pytest.raises(RunPausedError, match="not with these settings"):
            await optimizer.result(PATIENCE)
