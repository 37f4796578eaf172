"""Calls of text are made as DSPy makes them."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy.clients import execution
from dspy.clients.base_lm import GLOBAL_HISTORY
from dspy.lm15 import Message, Request, TextPart
from dspy.utils.usage_tracker import UsageTracker

from simba_actors.dspy_compat.text_calls import acall_of_text, calls_as_dspy_does, is_text_call
from simba_actors.lm.governed_lm import governed
from simba_actors.lm.governor import Governor
from simba_actors.lm.rollout_context import SETTING, RolloutContext
from simba_actors.lm.usage import Meter
from simba_actors.search.trajectory import Usage
from tests.support.quiz import legible_script
from tests.support.scripted_lm import Ask, ScriptedLM

ONCE = {"timestamp", "uuid"}
"""What no two entries of a history have in common."""


class Marking(ScriptedLM):
    """An LM with an `acall` of its own."""

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        return ["marked", *await super().acall(*args, **kwargs)]


async def test_the_answer_is_that_of_dspys_own_call() -> None:
    lm = ScriptedLM(legible_script)
    assert await acall_of_text(lm, "What is 1 + 1?", temperature=0.5) == await lm.acall(
        "What is 1 + 1?", temperature=0.5
    )


async def test_the_history_tells_the_same_as_of_dspys_own_call() -> None:
    lm = ScriptedLM(legible_script)
    await lm.acall("What is 1 + 1?", temperature=0.5)
    await acall_of_text(lm, "What is 1 + 1?", temperature=0.5)
    theirs, ours = ({k: v for k, v in entry.items() if k not in ONCE} for entry in lm.history)
    assert ours == theirs


async def watched_call(lm: Any, *, keeps_history: bool) -> tuple[Any, Usage]:
    """The answer to a call of a governed copy of `lm`, and what its rollout used."""
    rollout = RolloutContext(Meter(), keeps_history=keeps_history)
    with dspy.context(**{SETTING: rollout}):
        answer = await governed(lm, Governor()).acall("What is 1 + 1?")
    return answer, rollout.meter.total


async def test_where_no_history_is_kept_the_answer_and_what_it_used_are_the_same() -> None:
    lm = ScriptedLM(legible_script)
    assert await watched_call(lm, keeps_history=False) == await watched_call(lm, keeps_history=True)


async def test_where_no_history_is_kept_none_hears_of_the_call() -> None:
    known = list(GLOBAL_HISTORY)
    await watched_call(ScriptedLM(legible_script), keeps_history=False)
    assert known == GLOBAL_HISTORY


async def test_where_no_history_is_kept_a_tracker_of_usage_hears_of_the_call_as_it_would() -> None:
    lm, trackers = ScriptedLM(legible_script), (UsageTracker(), UsageTracker())
    for tracker, keeps_history in zip(trackers, (True, False), strict=True):
        with dspy.context(usage_tracker=tracker):
            await watched_call(lm, keeps_history=keeps_history)
    told, also_told = (tracker.get_total_tokens() for tracker in trackers)
    assert told == also_told != {}


async def test_what_dspy_refuses_is_refused_in_its_words() -> None:
    lm = ScriptedLM(legible_script)
    with pytest.raises(Exception, match=r".") as theirs:
        await lm.acall("What is 1 + 1?", n=0)
    with pytest.raises(type(theirs.value), match=str(theirs.value)):
        await acall_of_text(lm, "What is 1 + 1?", n=0)


async def test_an_acall_of_the_lms_own_is_called() -> None:
    lm = governed(Marking(legible_script), Governor())
    assert (await lm.acall("What is 1 + 1?"))[0] == "marked"


def test_an_acall_that_somebody_wrapped_is_not_dspys(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wrapped(*args: Any, **kwargs: Any) -> None:
        pass

    monkeypatch.setattr(dspy.BaseLM, "acall", wrapped)
    assert not calls_as_dspy_does(ScriptedLM(legible_script))


def test_a_typed_request_is_no_text_call() -> None:
    lm = ScriptedLM(legible_script)
    request = Request(model=lm.model, messages=(Message.user([TextPart("Hello")]),))
    assert not is_text_call(lm, request, {})


class Noting(list[Any]):
    """Messages that note the threads in which they are read."""

    def __init__(self, messages: list[Any]) -> None:
        super().__init__(messages)
        self.readers: set[int] = set()

    def __iter__(self) -> Iterator[Any]:
        self.readers.add(threading.get_ident())
        return super().__iter__()


@pytest.mark.filterwarnings("ignore:Passing OpenAI-style message dictionaries:DeprecationWarning")
async def test_a_governed_call_is_prepared_on_the_event_loop() -> None:
    messages = Noting([{"role": "user", "content": "What is 1 + 1?"}])
    await governed(ScriptedLM(legible_script), Governor()).acall(messages=messages)
    assert messages.readers == {threading.get_ident()}


async def test_a_governed_call_of_text_makes_no_trip_into_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    trips: list[Any] = []
    to_thread = asyncio.to_thread

    async def noted(*args: Any, **kwargs: Any) -> Any:
        trips.append(args)
        return await to_thread(*args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", noted)
    await governed(ScriptedLM(legible_script), Governor()).acall("What is 1 + 1?")
    assert not trips


async def test_an_engines_failure_is_told_as_by_dspys_own_call() -> None:
    def fails(ask: Ask) -> str:
        raise ZeroDivisionError(ask.last)

    lm = ScriptedLM(fails, num_retries=0)
    with pytest.raises(Exception, match=r".") as theirs:
        await lm.acall("What is 1 + 1?")
    with pytest.raises(type(theirs.value), match=re.escape(str(theirs.value))):
        await acall_of_text(lm, "What is 1 + 1?")


def test_a_dspy_without_the_steps_known_here_makes_its_calls_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(execution, "_price_result")
    assert not calls_as_dspy_does(ScriptedLM(legible_script))
