"""A limit on a rollout's own time, which does not count while it waits for its turn."""

from __future__ import annotations

import asyncio

import pytest

from simba_actors.lm.rollout_context import Deadline, RolloutContext
from simba_actors.lm.usage import Meter

LONG, SHORT = 3600.0, 0.01


async def test_a_block_that_ends_in_time_is_left_alone() -> None:
    done = False
    async with Deadline(LONG):
        await asyncio.sleep(0)
        done = True
    assert done


async def test_a_block_that_takes_too_long_is_left_without_an_error() -> None:
    done = False
    async with Deadline(SHORT):
        await asyncio.Event().wait()
        done = True
    assert not done
    assert asyncio.current_task().cancelling() == 0  # pyright: ignore[reportOptionalMemberAccess]


async def test_the_time_stands_still_while_it_is_stopped() -> None:
    waited = False
    async with Deadline(SHORT) as deadline:
        deadline.pause()
        await asyncio.sleep(5 * SHORT)
        deadline.resume()
        waited = True
    assert waited


async def test_a_call_in_a_thread_may_end_its_wait_after_its_rollout() -> None:
    async with Deadline(LONG) as deadline:
        rollout = RolloutContext(Meter(), deadline)
        with rollout.waiting():
            rollout.end()
    assert deadline.seconds_left > 0


async def test_what_was_left_before_a_stop_is_left_after_it() -> None:
    done = False
    async with Deadline(SHORT) as deadline:
        deadline.pause()
        await asyncio.sleep(5 * SHORT)
        deadline.resume()
        await asyncio.Event().wait()
        done = True
    assert not done


async def test_a_cancellation_from_outside_passes_through() -> None:
    async def work() -> None:
        async with Deadline(LONG):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_passes_through() -> None:
    with pytest.raises(LookupError):
        async with Deadline(LONG):
            raise LookupError


async def test_a_wait_that_outlives_the_block_may_end() -> None:
    async with Deadline(LONG) as deadline:
        deadline.pause()
    deadline.resume()
