"""Scored calls become examples if the live program keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors.live import LiveProgram
from simba_actors.publishing.channel import Channel
from simba_actors.publishing.online_examples import OnlineExample
from tests.support.live import publish, sayer


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "simba.db"


async def asked(live: LiveProgram, question: str, score: float) -> None:
    with live.call() as call:
        await live.acall(question=question)
    live.report(score, call.id)


async def kept(store: Path) -> list[OnlineExample]:
    async with await Channel.open(store, "default") as channel:
        return await channel.examples()


async def test_a_scored_call_is_kept_as_an_example(store: Path) -> None:
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store, keep_examples=10)
    await asked(live, "Why?", 0.5)
    live.close()
    (example,) = await kept(store)
    assert (example.inputs, example.outputs, example.score, example.version) == (
        {"question": "Why?"},
        {"answer": "one"},
        0.5,
        1,
    )
    assert example.trace == [["self", {"question": "Why?"}, {"answer": "one"}]]
    row: Any = example.to_example()
    assert (dict(row.inputs()), row.answer) == ({"question": "Why?"}, "one")


async def test_nothing_is_kept_unless_it_is_asked_for(store: Path) -> None:
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store)
    await asked(live, "Why?", 0.5)
    live.close()
    assert await kept(store) == []


async def test_a_call_without_a_score_is_not_kept(store: Path) -> None:
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store, keep_examples=10)
    await live.acall(question="Why?")
    live.close()
    assert await kept(store) == []


async def test_a_question_that_comes_again_is_kept_once_as_it_was_answered_last(store: Path) -> None:
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store, keep_examples=10)
    await asked(live, "Why?", 0.5)
    await publish(store, "two")
    await asked(live, "Why?", 0.75)
    live.close()
    assert [(e.outputs, e.score) for e in await kept(store)] == [({"answer": "two"}, 0.75)]


async def test_as_many_are_kept_as_asked_for_and_the_same_ones_whatever_the_order(store: Path, tmp_path: Path) -> None:
    sets: list[set[str]] = []
    questions = [f"What is {n}?" for n in range(40)]
    for place, order in ((store, questions), (tmp_path / "turned.db", questions[::-1])):
        await publish(place, "one")
        live = LiveProgram(sayer(), store=place, keep_examples=10)
        for question in order:
            await asked(live, question, 1.0)
        live.close()
        sets.append({str(example.inputs["question"]) for example in await kept(place)})
    assert len(sets[0]) == 10
    assert sets[0] == sets[1]


async def test_a_sync_call_is_kept_too(store: Path) -> None:
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store, keep_examples=10)
    with live.call() as call:
        live(question="Why?")
    live.report(1.0, call.id)
    live.close()
    assert len(await kept(store)) == 1


async def test_a_second_score_of_a_call_does_not_change_its_example(store: Path) -> None:
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store, keep_examples=10)
    with live.call() as call:
        await live.acall(question="Why?")
    for score in (1.0, 0.0):
        live.report(score, call.id)
        live.close()
    assert [example.score for example in await kept(store)] == [1.0]


async def test_a_score_that_is_reported_after_the_metrics_does_not_change_the_example(store: Path) -> None:
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store, metric=lambda example, prediction: 1.0, keep_examples=10)
    await asked(live, "Why?", 0.0)
    live.close()
    assert [example.score for example in await kept(store)] == [1.0]


async def test_the_callers_trace_has_the_calls_too(store: Path) -> None:
    live, trace = LiveProgram(sayer(), store=store, keep_examples=10), list[Any]()
    with dspy.context(trace=trace):
        await live.acall(question="Why?")
    assert [dict(inputs) for _, inputs, _ in trace] == [{"question": "Why?"}]


async def test_the_callers_trace_keeps_to_its_size(store: Path) -> None:
    live, trace = LiveProgram(sayer(), store=store, keep_examples=10), list[Any]()
    with dspy.context(trace=trace, max_trace_size=2):
        for number in range(3):
            await live.acall(question=str(number))
    assert [inputs["question"] for _, inputs, _ in trace] == ["1", "2"]


async def test_a_trace_that_keeps_nothing_stays_empty_and_the_example_has_its_steps(store: Path) -> None:
    live, trace = LiveProgram(sayer(), store=store, keep_examples=10), list[Any]()
    await publish(store, "one")
    with dspy.context(trace=trace, max_trace_size=0):
        await asked(live, "Why?", 1.0)
    live.close()
    (example,) = await kept(store)
    assert (trace, len(example.trace)) == ([], 1)


async def test_the_callers_trace_has_the_calls_of_a_run_that_failed(store: Path) -> None:
    class Failing(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask: Any = sayer()

        async def aforward(self) -> None:
            await self.ask.acall(question="Why?")
            raise LookupError

    live, trace = LiveProgram(Failing(), store=store, keep_examples=10), list[Any]()
    with dspy.context(trace=trace), pytest.raises(LookupError):
        await live.acall()
    assert len(trace) == 1
