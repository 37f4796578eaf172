"""Actors leave nothing behind, or cause a warning that says what to do."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from simba_actors.actors import SHUTDOWN, ExitReason, Ref, Registry, Supervisor, spawn
from simba_actors.actors.errors import StartFailedError
from simba_actors.actors.process import Process
from tests.actors.servers import Add, Crash, Leave, Log, TrappingWorker, Worker, child, crash, ref_of
from tests.support.logs import logged_by
from tests.support.virtual_clock import VirtualClockLoop


@asynccontextmanager
async def nothing_left() -> AsyncGenerator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() == before


async def test_a_start_and_stop_leave_no_task(log: Log) -> None:
    async with nothing_left():
        await (await Supervisor.start([child(log, label) for label in "abc"])).stop()


async def test_a_failed_start_leaves_no_task(log: Log) -> None:
    class Failing(Worker):
        async def init(self) -> Any:
            raise RuntimeError("no start")

    async with nothing_left():
        with pytest.raises(StartFailedError):
            await Supervisor.start([child(log, "a"), child(log, "b", TrappingWorker), child(log, "c", Failing)])


async def test_a_crash_leaves_no_task() -> None:
    async with nothing_left():
        await crash(await Worker.start())


async def test_restarts_leave_no_task(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, label) for label in "abc"], strategy="one_for_all")
    async with nothing_left_but_renewed():
        await crash(await ref_of(supervisor, "a"))
        await ref_of(supervisor, "a")
    await supervisor.stop()


@asynccontextmanager
async def nothing_left_but_renewed() -> AsyncGenerator[None]:
    before = sorted(task.get_name() for task in asyncio.all_tasks())
    yield
    assert sorted(task.get_name() for task in asyncio.all_tasks()) == before


async def test_a_supervisor_that_gives_up_leaves_no_task(log: Log) -> None:
    async with nothing_left():
        supervisor = await Supervisor.start([child(log, label) for label in "abc"], max_restarts=0)
        await crash(await ref_of(supervisor, "a"))
        await supervisor.wait()


async def test_a_start_that_the_host_cancels_leaves_no_task(log: Log) -> None:
    class Slow(Worker):
        async def init(self) -> None:
            await asyncio.sleep(100)

    async with nothing_left():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await Supervisor.start([child(log, "a"), child(log, "slow", Slow)])
    assert log == ["start a", "stop a"]


async def test_a_start_that_ignores_its_cancellation_is_killed() -> None:
    class Stubborn(Worker):
        async def init(self) -> None:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                await asyncio.sleep(10)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await Stubborn.start()
    assert asyncio.get_running_loop().time() == 6.0
    await asyncio.sleep(10)


def run(main: Coroutine[Any, Any, Any]) -> None:
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(main)


def test_the_end_of_the_loop_shuts_everything_down_in_order(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        kept.append(await Supervisor.start([child(log, "a"), child(log, "b", TrappingWorker)]))

    kept: list[Ref] = []
    gc.collect()  # Tasks that earlier tests have left on closed loops would be logged when they are freed.
    caplog.clear()
    run(main())
    assert kept[0].exit_reason == SHUTDOWN
    assert sorted(log) == ["start a", "start b", "stop a", "stop b"]
    assert logged_by(caplog, "simba_actors.actors") + logged_by(caplog, "asyncio") == []


def test_the_end_of_the_loop_ends_a_long_cleanup(log: Log) -> None:
    class Slow(Worker):
        async def terminate(self, reason: ExitReason) -> None:
            await asyncio.sleep(3)
            await super().terminate(reason)

    async def main() -> None:
        kept.append(await Supervisor.start([child(log, "a", Slow)]))

    kept: list[Ref] = []
    run(main())
    assert log == ["start a", "stop a"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_in_a_callback_ends_the_server_and_reaches_the_host(interruption: type[BaseException]) -> None:
    async def main() -> None:
        server = await Worker.start()
        kept.append(server)
        await server.call(Crash(interruption()))

    kept: list[Ref] = []
    with pytest.raises(interruption):
        run(main())
    assert isinstance(kept[0].exit_reason, interruption)


async def test_a_ref_dropped_while_its_server_lives_warns_and_names_the_remedy() -> None:
    server = await Worker.start(name="lost")
    process = server.target
    with pytest.warns(ResourceWarning, match=r"Worker 'lost' is still running.*keep the ref and `await ref\.stop\(\)`"):
        del server
    process.exit(SHUTDOWN)
    await process.exited


async def test_a_spawned_function_whose_ref_is_dropped_warns() -> None:
    with pytest.warns(ResourceWarning, match="sleep is still running"):
        spawn(asyncio.sleep, 1)
    await asyncio.sleep(2)


async def test_a_ref_dropped_without_harm_does_not_warn(log: Log) -> None:
    registry = Registry()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await Worker.start(name="registered", registry=registry)
        supervisor = await Supervisor.start([child(log, "supervised")])
        stopped = await Worker.start()
        await stopped.stop()
        del stopped
        gc.collect()
    await registry.via("registered").stop()
    await supervisor.stop()


async def test_a_dead_server_is_garbage(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, "a")])
    processes: list[weakref.ref[Process]] = []
    for _ in range(3):
        server = await ref_of(supervisor, "a")
        await server.call(Add())
        processes.append(weakref.ref(server.target))
        await server.call(Leave(SHUTDOWN))  # A crash report would keep it in memory.
        await server.wait()
        del server
    await asyncio.sleep(10)
    gc.collect()
    *earlier, _ = processes  # The supervisor's last message still holds the last one that ended.
    assert [process() for process in earlier] == [None, None]
    await supervisor.stop()
