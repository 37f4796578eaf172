"""Where a live program and an optimization share an endpoint, people go first."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import LMUnexpectedError

from simba_actors.live import LiveProgram, VariableAware
from simba_actors.lm.endpoint import Limits
from simba_actors.lm.governed_lm import governed
from simba_actors.lm.governor import Governor
from tests.support.live import publish, said
from tests.support.quiz import quiz_script
from tests.support.scripted_lm import Ask, ScriptedLM

WAITING = 20
HALFWAY = WAITING // 2
"""Some calls are answered while a live one is on its way. Were it to wait its turn, all of them would be."""


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
    assert lm.latency.most == 1
    return place


class Crowd:
    """The latency of an LM, which counts its calls as they come in, and how many it had at a time at most."""

    def __init__(self, answered: list[Ask]) -> None:
        self._answered = answered
        self._entered = 0
        self.most = 0

    def __call__(self, ask: Ask) -> float:
        self._entered += 1
        self.most = max(self.most, self._entered - len(self._answered))
        return 0.01


@pytest.fixture
def lm() -> ScriptedLM:
    asks: list[Ask] = []
    return ScriptedLM(quiz_script, latency=Crowd(asks), asks=asks)


@pytest.mark.parametrize("version", [0, 1])
async def test_a_live_call_goes_before_the_optimizers(version: int, lm: ScriptedLM, tmp_path: Path) -> None:
    live = LiveProgram(dspy.Predict("question -> answer"), store=tmp_path / "simba.db")
    if version:
        await publish(tmp_path / "simba.db", "one")
    with dspy.context(lm=lm):
        assert await place_of(lm, busy(lm), lambda: live.acall(question="live")) < HALFWAY


class Bot(VariableAware):
    def __init__(self, lm: ScriptedLM) -> None:
        super().__init__()
        self.answer: Any = dspy.Predict("question -> answer")
        self.answer.lm = lm

    async def aforward(self, question: str) -> Any:
        return await self.answer.acall(question=question)


def live_bot(lm: ScriptedLM, store: Path) -> Any:
    return LiveProgram(Bot(lm), store=store)


def bot(lm: ScriptedLM, store: Path) -> Any:
    following = Bot(lm)
    following.follow(store)
    return following


@pytest.mark.parametrize("make", [live_bot, bot])
@pytest.mark.parametrize("version", [0, 1])
async def test_so_does_one_of_a_predictor_with_its_own_lm(
    version: int, make: Any, lm: ScriptedLM, tmp_path: Path
) -> None:
    live = make(lm, tmp_path / "simba.db")
    if version:
        await publish(tmp_path / "simba.db", "one", predictor="answer")
    assert await place_of(lm, busy(lm), lambda: live.acall(question="live")) < HALFWAY
    assert live.version == version


class Heard(BaseCallback):
    def __init__(self) -> None:
        self.formatted = 0

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.formatted += 1


async def test_the_users_adapter_goes_on_with_its_callbacks(lm: ScriptedLM, tmp_path: Path) -> None:
    alone, beside = Heard(), Heard()
    student = dspy.Predict("question -> answer")
    live = LiveProgram(student, store=tmp_path / "simba.db")
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter(callbacks=[alone])):
        await student.acall(question="live")
    calls = busy(lm)
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter(callbacks=[beside])):
        await live.acall(question="live")
    await asyncio.gather(*calls)
    assert beside.formatted == alone.formatted > 0
    assert sum("JSON object" in ask.prompt for ask in lm.asks) == 2


async def test_so_does_a_sync_call_in_a_thread(lm: ScriptedLM, tmp_path: Path) -> None:
    live = LiveProgram(dspy.Predict("question -> answer"), store=tmp_path / "simba.db")
    with dspy.context(lm=lm):
        assert await place_of(lm, busy(lm), lambda: asyncio.to_thread(live, question="live")) < HALFWAY


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
