"""Looking at a running server with `sys`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simba_actors.actors import NORMAL, Exit, monitor, spawn, sys
from simba_actors.actors.errors import CallingSelfError, CallTimeoutError, NoProcessError, NotAServerError
from tests.actors.conftest import Keep
from tests.actors.servers import Add, Leave, Log, Run, TrappingWorker, Worker, crash


async def test_get_state_answers_while_suspended(keep: Keep) -> None:
    server = keep(await Worker.start())
    await server.call(Add(7))
    await sys.suspend(server)
    assert await sys.get_state(server) == 7


async def test_replace_state_with_a_function_that_raises_keeps_the_old_state(keep: Keep) -> None:
    server = keep(await Worker.start())

    def fail(_: Any) -> Any:
        raise ValueError("no new state")

    await server.call(Add(7))
    with pytest.raises(ValueError, match="no new state"):
        await sys.replace_state(server, fail)
    assert await sys.get_state(server) == 7


async def test_replace_state_gives_the_new_state(keep: Keep) -> None:
    server = keep(await Worker.start())
    assert await sys.replace_state(server, lambda count: count + 5) == 5
    assert await server.call(Add()) == 6


async def test_a_suspended_server_handles_its_messages_when_it_is_resumed(keep: Keep) -> None:
    server = keep(await Worker.start())
    await sys.suspend(server)
    with pytest.raises(CallTimeoutError):
        await server.call(Add(), timeout=1.0)
    await sys.resume(server)
    assert await server.call(Add(0)) == 1


async def test_a_suspended_server_gets_downs_when_it_is_resumed(keep: Keep, log: Log) -> None:
    server, other = keep(await TrappingWorker.start(log)), await Worker.start(name="other")

    async def watch(_: Worker) -> None:
        monitor(other)

    await server.call(Run(watch))
    await sys.suspend(server)
    await other.stop()
    await asyncio.sleep(10)
    assert len(log) == 1
    await sys.resume(server)
    await server.call(Add())
    assert log[1:] == ["Down(Worker 'other', normal)"]


async def test_a_suspended_server_can_be_stopped(log: Log) -> None:
    server = await Worker.start(log)
    await sys.suspend(server)
    assert await server.stop() == NORMAL
    assert log[-1] == "stop worker"


async def test_statistics_count_what_was_handled(keep: Keep) -> None:
    await asyncio.sleep(3)
    server = keep(await Worker.start())
    for _ in range(2):
        await server.cast(Add())
    server.send("hello")
    await server.call(Add())
    assert await sys.statistics(server) == sys.Statistics(started=3.0, calls=1, casts=2, infos=1)


async def test_looking_at_a_dead_server_fails_at_once() -> None:
    server = await Worker.start()
    await crash(server)
    with pytest.raises(NoProcessError):
        await sys.get_state(server)


async def test_only_servers_can_be_looked_at() -> None:
    process = spawn(asyncio.sleep, 1, name="nap")
    with pytest.raises(NotAServerError, match="nap"):
        await sys.get_state(process)
    await process.wait()


async def test_a_server_that_looks_at_itself_fails_at_once(keep: Keep) -> None:
    server = keep(await Worker.start())

    async def look(worker: Worker) -> str:
        with pytest.raises(CallingSelfError):
            await sys.get_state(worker.ref)
        return "refused"

    assert await server.call(Run(look)) == "refused"


async def test_a_request_to_a_busy_server_times_out_without_harm(keep: Keep) -> None:
    server = keep(await Worker.start())
    busy = asyncio.create_task(server.call(Run(lambda _: asyncio.sleep(10)), timeout=None))
    await asyncio.sleep(1)
    with pytest.raises(CallTimeoutError, match="replace_state"):
        await sys.replace_state(server, lambda count: count / 0, timeout=1.0)
    await busy
    assert await server.call(Leave(Exit("done"))) == "bye"
