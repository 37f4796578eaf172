"""Task supervisors and their streams."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from simba_actors.actors import KILLED, Exit, Failed, Ok, TaskSupervisor, async_stream, sys
from simba_actors.actors.errors import BadSpecError, BadTimeoutError, NoProcessError, UnhandledMessageError
from tests.actors.conftest import Keep
from tests.actors.servers import Add


async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    if seconds == 13:
        raise ValueError("bad luck")
    return seconds


async def collect(keep: Keep, inputs: list[float], **options: Any) -> list[Ok[float] | Failed]:
    tasks = keep(await TaskSupervisor.start())
    return [result async for result in async_stream(tasks, wait, inputs, **options)]


async def test_results_come_in_the_order_of_the_inputs(keep: Keep) -> None:
    assert await collect(keep, [5, 3, 1]) == [Ok(5), Ok(3), Ok(1)]
    assert asyncio.get_running_loop().time() == 5


async def test_a_crash_is_an_item(keep: Keep) -> None:
    results = await collect(keep, [1, 13, 2])
    assert [type(result) for result in results] == [Ok, Failed, Ok]
    assert isinstance(results[1], Failed)
    assert isinstance(results[1].reason, ValueError)


async def test_a_timeout_is_an_item(keep: Keep) -> None:
    assert await collect(keep, [1, 100, 2], timeout=10) == [Ok(1), Failed(Exit("timeout")), Ok(2)]
    assert asyncio.get_running_loop().time() == 10


async def test_a_timeout_does_not_wait_for_a_task_that_ignores_its_cancellation(keep: Keep) -> None:
    async def hold_on(_: float) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(100)

    tasks = keep(await TaskSupervisor.start())
    assert [r async for r in async_stream(tasks, hold_on, [1], timeout=1)] == [Failed(Exit("timeout"))]
    assert asyncio.get_running_loop().time() == 1
    await asyncio.sleep(100)


async def test_no_more_than_max_concurrency_run_at_a_time(keep: Keep) -> None:
    running, most = 0, 0

    async def count(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1

    tasks = keep(await TaskSupervisor.start())
    assert len([r async for r in async_stream(tasks, count, range(10), max_concurrency=3)]) == 10
    assert most == 3


async def test_a_consumer_that_stops_early_leaves_no_task(keep: Keep) -> None:
    tasks, before = keep(await TaskSupervisor.start()), asyncio.all_tasks()
    async with aclosing(async_stream(tasks, wait, [1, 100, 100, 100])) as stream:
        async for _ in stream:
            break
    assert asyncio.all_tasks() == before
    assert asyncio.get_running_loop().time() == 1


async def test_a_consumer_that_is_cancelled_leaves_no_task(keep: Keep) -> None:
    tasks, before = keep(await TaskSupervisor.start()), asyncio.all_tasks()

    async def consume() -> None:
        async with aclosing(async_stream(tasks, wait, [100.0] * 4)) as stream:
            async for _ in stream:
                pass

    for turns in range(20):
        consumer = asyncio.create_task(consume())
        for _ in range(turns):
            await asyncio.sleep(0)
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
        assert asyncio.all_tasks() == before
    assert await sys.get_state(tasks) == {}


async def test_tasks_are_shut_down_with_their_supervisor() -> None:
    tasks = await TaskSupervisor.start()
    stream = async_stream(tasks, wait, [100, 100])
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(1)
    await tasks.stop()
    assert isinstance(await first, Failed)
    await stream.aclose()


async def test_a_stream_of_a_dead_supervisor_fails_at_once() -> None:
    tasks = await TaskSupervisor.start()
    await tasks.stop()
    with pytest.raises(NoProcessError):
        await anext(async_stream(tasks, wait, [1]))


async def test_tasks_end_with_their_killed_supervisor() -> None:
    tasks = await TaskSupervisor.start()
    stream = async_stream(tasks, wait, [100, 100], max_concurrency=2)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(1)
    tasks.kill()
    assert await first == Failed(KILLED)
    await stream.aclose()


@pytest.mark.parametrize(
    ("options", "error"), [({"max_concurrency": 0}, BadSpecError), ({"timeout": -1}, BadTimeoutError)], ids=str
)
async def test_a_bad_option_is_refused(options: dict[str, Any], error: type[Exception], keep: Keep) -> None:
    with pytest.raises(error, match=next(iter(options))):
        await collect(keep, [1], **options)


async def test_an_unknown_cast_ends_the_supervisor() -> None:
    tasks = await TaskSupervisor.start()
    await tasks.cast(Add())
    assert isinstance(await tasks.wait(), UnhandledMessageError)
