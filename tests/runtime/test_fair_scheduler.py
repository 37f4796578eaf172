"""Rollouts take only a slice of each iteration of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest

from simba_actors.runtime import fair_scheduler
from simba_actors.runtime.fair_scheduler import FairScheduler, YieldingDriver
from tests.support.waiting import PATIENCE, until


async def resumed(scheduler: FairScheduler) -> None:
    place = scheduler.resume()
    if place is not None:
        await place


async def all_done(rollouts: Sequence[asyncio.Future[None]], iteration: list[int]) -> None:
    """Wait until all rollouts are done, and count the iterations of the event loop."""

    def are_done() -> bool:
        iteration[0] += 1
        return all(each.done() for each in rollouts)

    await until(are_done, pause=0)


def work_for(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def test_rollouts_that_take_a_slice_each_run_in_iterations_of_their_own() -> None:
    scheduler, iteration = FairScheduler(), [0]
    ran_in: list[int] = []

    async def rollout() -> None:
        await scheduler.begin()
        ran_in.append(iteration[0])
        work_for(1.5 * fair_scheduler.SLICE)

    rollouts = [asyncio.ensure_future(rollout()) for _ in range(12)]
    await all_done(rollouts, iteration)
    assert Counter(ran_in).most_common(1)[0][1] == 1


async def test_short_rollouts_share_an_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_scheduler, "SLICE", 60.0)  # However slow the machine is.
    scheduler, iteration = FairScheduler(), [0]

    async def rollout() -> None:
        await scheduler.begin()

    rollouts = [asyncio.ensure_future(rollout()) for _ in range(200)]
    await all_done(rollouts, iteration)
    assert iteration[0] < 60


async def test_waiting_rollouts_are_admitted_in_the_order_of_arrival() -> None:
    scheduler = FairScheduler()
    order: list[int] = []

    async def rollout(number: int) -> None:
        await scheduler.begin()
        order.append(number)

    await asyncio.gather(*(rollout(number) for number in range(20)))
    assert order == list(range(20))


async def test_resumed_rollouts_and_new_ones_are_admitted_by_turns() -> None:
    scheduler = FairScheduler()
    order: list[str] = []

    async def rollout(name: str, turn: Callable[[], Awaitable[None]]) -> None:
        await turn()
        order.append(name)

    new = [rollout("new", scheduler.begin) for _ in range(4)]
    under_way = [rollout("resumed", lambda: resumed(scheduler)) for _ in range(6)]
    await asyncio.gather(*new, *under_way)
    assert order == ["new", "resumed"] * 4 + ["resumed"] * 2


async def test_a_cancelled_rollout_delays_no_other() -> None:
    scheduler = FairScheduler()
    rollouts = [asyncio.ensure_future(scheduler.begin()) for _ in range(20)]
    await asyncio.sleep(0)
    for rollout in rollouts[10:15]:
        rollout.cancel()
    ended = await asyncio.gather(*rollouts, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ended].count(True) == 5


def test_rollouts_are_admitted_on_another_loop_after_one_that_ended_early() -> None:
    scheduler = FairScheduler()

    async def begin_and_leave() -> None:
        waiting = [asyncio.ensure_future(scheduler.begin()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting)

    asyncio.run(begin_and_leave())
    asyncio.run(asyncio.wait_for(scheduler.begin(), PATIENCE))


async def test_driven_work_waits_for_its_turn_after_each_of_its_waits() -> None:
    turns: list[int] = []

    async def work() -> None:
        for number in range(3):
            await asyncio.sleep(0)
            assert len(turns) == number + 1

    def turn() -> Awaitable[None]:
        turns.append(1)
        return asyncio.sleep(0)

    await YieldingDriver(work(), turn)
    assert len(turns) == 3


async def test_driven_work_returns_its_result() -> None:
    assert await YieldingDriver(asyncio.sleep(0, "value"), FairScheduler().resume) == "value"


async def test_driven_work_raises_its_error() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await YieldingDriver(fails(), FairScheduler().resume)


async def test_driven_work_may_clean_up_after_a_cancellation() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    async def rollout() -> None:
        await YieldingDriver(work(), FairScheduler().resume)

    task = asyncio.ensure_future(rollout())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleaned up"]


async def test_driven_work_that_waits_for_its_turn_can_be_cancelled() -> None:
    seen: list[str] = []
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await asyncio.sleep(0)
            seen.append("continued")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def rollout() -> None:
        await YieldingDriver(work(), lambda: never)

    task = asyncio.ensure_future(rollout())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
