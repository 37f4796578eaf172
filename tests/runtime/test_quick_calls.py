"""Short blocking calls share a thread; a long one holds up no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar

import pytest

from simba_actors.runtime.fair_scheduler import FairScheduler
from simba_actors.runtime.quick_calls import ENOUGH, QuickCalls
from simba_actors.runtime.threads import Threads
from tests.support.virtual_clock import VirtualClockLoop

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


class HeldThreads(Threads):
    """Threads that begin with their jobs when they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Callable[[], None]] = []
        self.asked = asyncio.Event()

    def start(self, job: Callable[[], None]) -> None:
        self.held.append(job)
        self.asked.set()

    def release(self) -> None:
        while self.held:
            super().start(self.held.pop())


async def test_calls_that_arrive_before_the_thread_begins_share_it() -> None:
    threads = HeldThreads()
    calls = QuickCalls(threads)
    first = asyncio.create_task(calls.run(threading.get_ident))
    await threads.asked.wait()
    second = asyncio.create_task(calls.run(threading.get_ident))
    await asyncio.sleep(0)
    threads.release()
    assert await first == await second


async def test_a_call_that_hangs_holds_up_none_that_arrives_while_it_does() -> None:
    calls = QuickCalls(Threads())
    entered, released = threading.Event(), threading.Event()

    def hangs() -> bool:
        entered.set()
        return released.wait(PATIENCE)

    hanging = asyncio.create_task(calls.run(hangs))
    try:
        assert await asyncio.to_thread(entered.wait, PATIENCE)
        assert await calls.run(lambda: "after") == "after"
        assert not hanging.done()
    finally:
        released.set()
    assert await hanging


def arrivals_at_departure(rollouts: int) -> int:
    """How many calls were there when the first trip set out, of `rollouts` that go on one in a turn of the loop."""
    arrived = at_departure = 0
    departed = asyncio.Event()

    class WatchedThreads(Threads):
        def start(self, job: Callable[[], None]) -> None:
            nonlocal at_departure
            at_departure = at_departure or arrived
            departed.set()

    async def main() -> None:
        share = FairScheduler()
        calls = QuickCalls(WatchedThreads(), share)

        async def rollout() -> None:
            nonlocal arrived
            await share.go_on()
            arrived += 1
            await calls.run(lambda: None)

        tasks = [asyncio.create_task(rollout()) for _ in range(rollouts)]
        await departed.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(main())
    return at_departure


def test_a_trip_waits_for_the_calls_of_rollouts_that_are_about_to_go_on() -> None:
    assert arrivals_at_departure(rollouts=ENOUGH - 1) == ENOUGH - 1


def test_a_trip_waits_for_no_more_than_are_enough() -> None:
    assert arrivals_at_departure(rollouts=10 * ENOUGH) == ENOUGH


def test_a_trip_waits_for_nobody_where_no_rollout_is_about_to_go_on() -> None:
    assert arrivals_at_departure(rollouts=1) == 1
