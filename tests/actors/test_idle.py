"""Idle times."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simba_actors.actors import IDLE, CallReturn, CastReturn, From, GenServer, Idle, InitReturn, NoReply, Reply, sys
from simba_actors.actors.errors import BadReturnError
from tests.actors.conftest import Keep
from tests.actors.servers import Add


class Idler(GenServer[list[float]]):
    """Writes down when it was idle for two seconds, after its start or after a call."""

    async def init(self) -> InitReturn:
        self.state = []
        return Idle(2.0)

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        return Reply(0, Idle(2.0))

    async def handle_cast(self, message: Any) -> CastReturn:
        return NoReply()

    async def handle_info(self, message: Any) -> CastReturn:
        assert message is IDLE
        self.state.append(asyncio.get_running_loop().time())
        return None


async def test_idle_comes_when_no_message_did(keep: Keep) -> None:
    idler = keep(await Idler.start())
    await asyncio.sleep(10)
    assert await sys.get_state(idler) == [2.0]


async def test_a_message_before_the_idle_timeout_clears_it(keep: Keep) -> None:
    idler = keep(await Idler.start())
    await asyncio.sleep(1)
    await idler.cast("a message")
    await asyncio.sleep(10)
    assert await sys.get_state(idler) == []


async def test_a_message_may_start_the_idle_time_again(keep: Keep) -> None:
    idler = keep(await Idler.start())
    await asyncio.sleep(1)
    await idler.call(Add())
    await asyncio.sleep(10)
    assert await sys.get_state(idler) == [3.0]


async def test_a_look_from_outside_keeps_the_idle_time(keep: Keep) -> None:
    idler = keep(await Idler.start())
    await asyncio.sleep(1)
    await sys.get_state(idler)
    await asyncio.sleep(10)
    assert await sys.get_state(idler) == [3.0]


async def test_a_suspended_server_is_not_idle(keep: Keep) -> None:
    idler = keep(await Idler.start())
    await sys.suspend(idler)
    await asyncio.sleep(10)
    assert await sys.get_state(idler) == []
    await sys.resume(idler)
    await asyncio.sleep(10)
    assert await sys.get_state(idler) == [12.0]


@pytest.mark.parametrize("seconds", [-1, float("nan"), "soon", True])
async def test_an_idle_time_that_is_not_a_duration_is_a_bad_return(seconds: Any) -> None:
    class Wrong(Idler):
        async def handle_cast(self, message: Any) -> CastReturn:
            return Idle(seconds)

    server = await Wrong.start()
    await server.cast("a message")
    assert isinstance(await server.wait(), BadReturnError)


async def test_an_idle_time_of_zero_is_over_when_no_message_waits(keep: Keep) -> None:
    class Eager(Idler):
        async def handle_cast(self, message: Any) -> CastReturn:
            return Idle(0)

    eager = keep(await Eager.start())
    for _ in range(3):
        eager.cast_nowait("one of three")
    await asyncio.sleep(10)
    assert await sys.get_state(eager) == [0.0]
