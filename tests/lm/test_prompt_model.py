"""Asking the LM that writes instructions."""

from __future__ import annotations

from threading import Thread
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import ContextWindowExceededError, LMInvalidRequestError

from simba_actors.dspy_compat.lm_calls import route_lm_calls
from simba_actors.errors import LMAccessError, PromptTooLongError, ReplyCutOffError, RolloutTimeoutError
from simba_actors.lm.governed_lm import Twins, governed, routed
from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.prompt_model import LONG_PROMPT, LocalPromptModel
from simba_actors.runtime.threads import Threads
from tests.support.scripted_lm import Ask, CutOff, Script, ScriptedLM
from tests.support.waiting import PATIENCE

REPLY = "[[ ## advice ## ]]\nLook twice.\n\n[[ ## completed ## ]]"


class Advise(dspy.Signature):
    question: str = dspy.InputField()
    advice: str = dspy.OutputField()


async def advice(script: Script, question: str = "What now?", **settings: Any) -> str:
    governor = Governor()
    model = LocalPromptModel(governed(ScriptedLM(script, **settings), governor), governor.secrets)
    answer: Any = await model.ask(Advise, question=question)
    return answer.advice


def refusing(error: Exception) -> Script:
    def script(ask: Ask) -> str:
        raise error

    return script


async def test_a_reply_that_ended_by_itself_is_the_answer() -> None:
    assert await advice(lambda ask: REPLY) == "Look twice."


async def test_a_reply_that_was_cut_off_is_asked_for_again_with_more_room() -> None:
    limits: list[int | None] = []

    def script(ask: Ask) -> str:
        limits.append(ask.max_tokens)
        return CutOff(REPLY) if len(limits) == 1 else REPLY

    assert await advice(script, max_tokens=50) == "Look twice."
    assert limits == [50, 200]


async def test_a_reply_that_is_cut_off_again_is_no_answer() -> None:
    with pytest.raises(ReplyCutOffError, match="raise max_tokens"):
        await advice(lambda ask: CutOff(REPLY), max_tokens=50)


async def test_a_reply_that_was_cut_off_before_it_can_be_parsed_is_asked_for_again() -> None:
    def script(ask: Ask) -> str:
        return CutOff("[[ ## adv") if ask.max_tokens == 50 else REPLY

    assert await advice(script, max_tokens=50) == "Look twice."


async def test_a_reply_that_the_provider_cut_off_is_no_answer() -> None:
    with pytest.raises(ReplyCutOffError):
        await advice(lambda ask: CutOff(REPLY), max_tokens=None)


async def test_a_prompt_beyond_the_context_window_is_too_long() -> None:
    with pytest.raises(PromptTooLongError, match="a prompt of 9 characters"):
        await advice(refusing(ContextWindowExceededError()))


async def test_a_long_prompt_that_is_refused_is_too_long() -> None:
    with pytest.raises(PromptTooLongError):
        await advice(refusing(LMInvalidRequestError("input exceeds the limit")), "x" * (LONG_PROMPT + 1))


async def test_a_short_prompt_that_is_refused_is_not_too_long() -> None:
    with pytest.raises(LMAccessError, match="no such parameter"):
        await advice(refusing(LMInvalidRequestError("no such parameter")))


async def test_a_question_that_is_not_answered_in_time_names_the_endpoint() -> None:
    governor = Governor()
    lm = governed(ScriptedLM(lambda ask: REPLY, latency=3600.0), governor)
    with pytest.raises(RolloutTimeoutError, match="scripted/lm hangs") as raised:
        await LocalPromptModel(lm, governor.secrets, timeout=0.05).ask(Advise, question="What now?")
    assert raised.value.endpoint == "scripted/lm"


async def test_an_lm_that_belongs_to_the_adapter_is_governed_too() -> None:
    counted: list[Any] = []

    async def count(size: Any) -> None:
        counted.append(size)

    governor, caller = Governor(), Caller(before_call=count)
    adapters_lm = ScriptedLM(lambda ask: REPLY)
    twins = Twins(governor, caller, Threads())
    lm = governed(ScriptedLM(lambda ask: "Look twice."), governor, caller=caller)
    model = LocalPromptModel(lm, governor.secrets, govern=twins)
    undo = route_lm_calls(routed)
    try:
        with dspy.context(adapter=dspy.TwoStepAdapter(adapters_lm)):
            answer: Any = await model.ask(Advise, question="What now?")
    finally:
        undo()
    assert (answer.advice, model.usage.calls, len(counted)) == ("Look twice.", 2, 2)


async def test_an_lm_whose_copy_calls_another_one_gets_a_twin() -> None:
    class Fussy(ScriptedLM):
        def copy(self, **kwargs: Any) -> Any:
            twins(others)
            return super().copy(**kwargs)

    twins, others = Twins(Governor(), Caller(), Threads()), ScriptedLM(lambda ask: REPLY)
    found: list[Any] = []
    thread = Thread(target=lambda: found.append(twins(Fussy(lambda ask: REPLY))), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert isinstance(found[0], Fussy)
