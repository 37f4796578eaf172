"""One rollout goes on in one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from simba_actors.runtime.fair_scheduler import FairScheduler, YieldingDriver


async def test_the_loop_turns_between_one_and_the_next() -> None:
    share, turn = FairScheduler(), 0
    passed_in: list[int] = []

    async def rollout() -> None:
        await share.begin()
        passed_in.append(turn)

    rollouts = [asyncio.ensure_future(rollout()) for _ in range(30)]
    while not all(rollout.done() for rollout in rollouts):
        await asyncio.sleep(0)
        turn += 1
    assert len(passed_in) == 30
    assert max(passed_in.count(number) for number in passed_in) == 1


async def test_those_who_wait_go_on_in_the_order_in_which_they_came() -> None:
    share = FairScheduler()
    order: list[int] = []

    async def rollout(number: int) -> None:
        await share.begin()
        order.append(number)

    await asyncio.gather(*(rollout(number) for number in range(20)))
    assert order == list(range(20))


async def test_what_is_under_way_goes_before_what_begins_and_that_before_what_is_ahead_of_its_time() -> None:
    share = FairScheduler()
    order: list[str] = []

    async def rollout(name: str, turn: Callable[[], Awaitable[None]]) -> None:
        await turn()
        order.append(name)

    first = rollout("first", share.begin)
    ahead = [rollout("ahead", share.go_ahead) for _ in range(4)]
    beginning = [rollout("begins", share.begin) for _ in range(4)]
    going_on = [rollout("goes on", share.go_on) for _ in range(4)]
    await asyncio.gather(first, *ahead, *beginning, *going_on)
    assert order == ["first"] + ["goes on"] * 4 + ["begins"] * 4 + ["ahead"] * 4


async def test_one_who_is_cancelled_holds_up_nobody() -> None:
    share = FairScheduler()
    rollouts = [asyncio.ensure_future(share.begin()) for _ in range(20)]
    await asyncio.sleep(0)
    for rollout in rollouts[10:15]:
        rollout.cancel()
    ended = await asyncio.gather(*rollouts, return_exceptions=True)
    assert [isinstance(end, asyncio.CancelledError) for end in ended].count(True) == 5


async def test_one_alone_does_not_wait() -> None:
    share = FairScheduler()
    turn = share.begin()
    try:
        turn.send(None)
    except StopIteration:
        return
    finally:
        turn.close()
    raise AssertionError("it waited")


async def test_paced_work_waits_for_its_turn_after_each_of_its_waits() -> None:
    share, turn = FairScheduler(), 0
    steps_in: list[int] = []

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            steps_in.append(turn)

    async def rollout() -> None:
        await YieldingDriver(work(), share.go_on)

    rollouts = [asyncio.ensure_future(rollout()) for _ in range(30)]
    while not all(rollout.done() for rollout in rollouts):
        await asyncio.sleep(0)
        turn += 1
    assert len(steps_in) == 90
    assert max(steps_in.count(number) for number in steps_in) == 1


async def test_paced_work_gives_what_it_returns() -> None:
    assert await YieldingDriver(asyncio.sleep(0, "value"), FairScheduler().go_on) == "value"


async def test_paced_work_raises_what_it_raises() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await YieldingDriver(fails(), FairScheduler().go_on)


async def test_paced_work_may_see_its_cancellation_and_clean_up() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    async def rollout() -> None:
        await YieldingDriver(work(), FairScheduler().go_on)

    task = asyncio.ensure_future(rollout())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cleaned up"]


async def test_paced_work_is_cancelled_while_it_waits_for_its_turn() -> None:
    share = FairScheduler()
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(0)
            seen.append("went on")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def rollout() -> None:
        await YieldingDriver(work(), share.go_on)

    rollouts = [asyncio.ensure_future(rollout()) for _ in range(30)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rollouts[-1].cancel()
    await asyncio.gather(*rollouts, return_exceptions=True)
    assert seen.count("cancelled") == 1
    assert seen.count("went on") == len(rollouts) - 1
