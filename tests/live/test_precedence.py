"""Where a live program and an optimization share an endpoint, people go first."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMUnexpectedError

from simba_actors.live import LiveProgram
from simba_actors.rollouts import Governor, Limits, governed
from tests.support.live import publish, said
from tests.support.quiz import quiz_script
from tests.support.scripted_lm import ScriptedLM

WAITING = 20


def busy(lm: Any) -> list[asyncio.Future[Any]]:
    """An optimization's calls, of which the endpoint takes one at a time."""
    governor = Governor(limits={"scripted/lm": Limits(most_at_a_time=1)})
    optimizers = governed(lm, governor)
    return [asyncio.ensure_future(optimizers.acall(f"call {n} of the optimizer")) for n in range(WAITING)]


async def place_of(lm: Any, calls: list[asyncio.Future[Any]], live_call: Any) -> int:
    """How many of the optimization's calls were answered before the live one."""
    await calls[0]
    await live_call()
    place = next(n for n, ask in enumerate(lm.asks) if "live" in ask.prompt)
    await asyncio.gather(*calls)
    assert len(lm.asks) == WAITING + 1
    return place


@pytest.fixture
def lm() -> ScriptedLM:
    return ScriptedLM(quiz_script, latency=0.01)


@pytest.mark.parametrize("version", [0, 1])
async def test_a_live_call_goes_before_the_optimizers(version: int, lm: ScriptedLM, tmp_path: Path) -> None:
    live = LiveProgram(dspy.Predict("question -> answer"), store=tmp_path / "simba.db")
    if version:
        await publish(tmp_path / "simba.db", "one")
    with dspy.context(lm=lm):
        assert await place_of(lm, busy(lm), lambda: live.acall(question="live")) <= 3


async def test_so_does_one_of_a_predictor_with_its_own_lm(lm: ScriptedLM, tmp_path: Path) -> None:
    student = dspy.Predict("question -> answer")
    student.lm = lm
    live = LiveProgram(student, store=tmp_path / "simba.db")
    await publish(tmp_path / "simba.db", "one")
    assert await place_of(lm, busy(lm), lambda: live.acall(question="live")) <= 3


async def test_so_does_a_sync_call_in_a_thread(lm: ScriptedLM, tmp_path: Path) -> None:
    live = LiveProgram(dspy.Predict("question -> answer"), store=tmp_path / "simba.db")
    with dspy.context(lm=lm):
        assert await place_of(lm, busy(lm), lambda: asyncio.to_thread(live, question="live")) <= 3


async def test_an_error_of_the_lm_reaches_the_request_as_it_is_and_frees_the_endpoint(tmp_path: Path) -> None:
    def script(ask: Any) -> Any:
        if "live" in ask.prompt:
            raise RuntimeError
        return quiz_script(ask)

    lm = ScriptedLM(script, latency=0.01)
    live = LiveProgram(dspy.Predict("question -> answer"), store=tmp_path / "simba.db")
    calls = busy(lm)
    with dspy.context(lm=lm), pytest.raises(LMUnexpectedError):
        await live.acall(question="live")
    await asyncio.gather(*calls)


async def test_calls_of_a_live_program_are_in_the_history_of_the_users_lm(tmp_path: Path) -> None:
    lm = ScriptedLM(said)
    await asyncio.gather(*busy(lm))
    before = len(lm.history)
    with dspy.context(lm=lm):
        await LiveProgram(dspy.Predict("question -> answer"), store=tmp_path / "simba.db").acall(question="live")
    assert len(lm.history) == before + 1
