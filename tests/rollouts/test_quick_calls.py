"""Short blocking calls share a thread; a long one holds up no other."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from simba_actors.rollouts.quick_calls import QuickCalls
from simba_actors.rollouts.threads import Threads

colour: ContextVar[str] = ContextVar("colour")

PATIENCE = 10.0
"""Seconds after which a call that gives no answer has failed."""


async def test_calls_of_one_turn_share_a_thread() -> None:
    calls = QuickCalls(Threads())
    threads = await asyncio.gather(*(calls.run(threading.get_ident) for _ in range(8)))
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


async def test_each_call_gets_its_own_value() -> None:
    calls = QuickCalls(Threads())
    assert await asyncio.gather(*(calls.run(lambda n=n: n) for n in range(8))) == list(range(8))


async def test_an_error_is_raised_where_its_call_is_awaited() -> None:
    calls = QuickCalls(Threads())

    def fails() -> None:
        raise LookupError("mine")

    good, bad = asyncio.create_task(calls.run(lambda: 1)), asyncio.create_task(calls.run(fails))
    with pytest.raises(LookupError, match="mine"):
        await bad
    assert await good == 1


async def test_a_call_that_hangs_holds_up_neither_those_before_nor_after_it() -> None:
    calls = QuickCalls(Threads())
    released = threading.Event()
    before, hanging, after = (
        asyncio.create_task(calls.run(call)) for call in (lambda: "before", released.wait, lambda: "after")
    )
    try:
        assert await asyncio.gather(before, after) == ["before", "after"]
        assert not hanging.done()
    finally:
        released.set()
    assert await hanging


async def test_a_call_runs_in_the_context_of_its_caller() -> None:
    calls = QuickCalls(Threads())
    colour.set("red")
    assert await calls.run(colour.get) == "red"


async def test_the_answer_of_a_call_that_nobody_awaits_any_more_is_dropped() -> None:
    calls = QuickCalls(Threads())
    released = threading.Event()
    waiting = asyncio.create_task(calls.run(released.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    released.set()
    assert await calls.run(lambda: 1) == 1


async def test_a_stop_iteration_is_told_of_as_in_generators_and_holds_up_no_other_call() -> None:
    calls = QuickCalls(Threads())
    found: list[str] = []
    bad, good = asyncio.create_task(calls.run(lambda: next(iter(found)))), asyncio.create_task(calls.run(lambda: 1))
    assert await asyncio.wait_for(good, PATIENCE) == 1
    with pytest.raises(RuntimeError, match="StopIteration") as raised:
        await asyncio.wait_for(bad, PATIENCE)
    assert isinstance(raised.value.__cause__, StopIteration)
