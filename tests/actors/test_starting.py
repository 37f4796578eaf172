"""Starting a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from simba_actors.actors import (
    Call,
    CallReturn,
    CastReturn,
    Continue,
    Exit,
    From,
    GenServer,
    Ignore,
    InitReturn,
    Registry,
    Reply,
    Stop,
)
from simba_actors.actors.errors import (
    AlreadyStartedError,
    BadReturnError,
    BadSpecError,
    BadTimeoutError,
    StartIgnoredError,
    StartStoppedError,
    StartTimeoutError,
)
from tests.actors.conftest import Keep
from tests.actors.servers import Add, Worker


@dataclass(frozen=True, slots=True)
class Seen(Call[list[Any]]):
    pass


class Starting(GenServer[list[Any]]):
    """Returns or raises `outcome` from its `init`, after some seconds."""

    def __init__(self, returned: Any, seconds: float = 0) -> None:
        self._returned = returned
        self._seconds = seconds

    async def init(self) -> InitReturn:
        self.state = []
        self.ref.cast_nowait("sent during init")
        await asyncio.sleep(self._seconds)
        if isinstance(self._returned, BaseException):
            raise self._returned
        return self._returned

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        return Reply(self.state)

    async def handle_cast(self, message: Any) -> CastReturn:
        self.state.append(message)
        return None

    async def handle_continue(self, token: Any) -> CastReturn:
        self.state.append(token)
        return None


async def test_init_beyond_the_start_timeout_fails_the_start_and_leaves_nothing() -> None:
    registry, before = Registry(), asyncio.all_tasks()
    with pytest.raises(StartTimeoutError, match="Starting 'slow'"):
        await Starting.start(None, 10.0, name="slow", registry=registry, timeout=1.0)
    assert asyncio.get_running_loop().time() == 1.0
    assert asyncio.all_tasks() == before
    assert registry.keys() == []


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        (Ignore(), StartIgnoredError),
        (Stop(Exit("no licence")), StartStoppedError),
        (Stop(LookupError("no file")), LookupError),
        (LookupError("no file"), LookupError),
    ],
    ids=["ignore", "stop with a reason", "stop with an exception", "raise"],
)
async def test_a_start_that_init_declines_fails_with_its_reason_and_frees_the_name(
    returned: Any, error: type[Exception], keep: Keep
) -> None:
    registry = Registry()
    with pytest.raises(error):
        await Starting.start(returned, name="name", registry=registry)
    assert registry.whereis("name") is None
    keep(await Worker.start(name="name", registry=registry))


async def test_a_taken_name_fails_the_start_with_the_living_ref(keep: Keep) -> None:
    registry = Registry()
    first = keep(await Worker.start(name="name", registry=registry))
    with pytest.raises(AlreadyStartedError, match="'name'") as error:
        await Worker.start(name="name", registry=registry)
    assert error.value.ref == first
    assert await first.call(Add()) == 1


async def test_continue_comes_before_any_message_even_one_sent_during_init(keep: Keep) -> None:
    server = keep(await Starting.start(Continue("continued")))
    await server.cast("sent later")
    assert await server.call(Seen()) == ["continued", "sent during init", "sent later"]


async def test_an_init_that_returns_nonsense_fails_the_start() -> None:
    with pytest.raises(BadReturnError, match="init of Starting returned 'nonsense'"):
        await Starting.start("nonsense")


async def test_a_registry_without_a_name_is_refused() -> None:
    with pytest.raises(BadSpecError, match="no name"):
        await Worker.start(registry=Registry())


async def test_a_timeout_that_is_not_a_duration_is_refused_before_the_start() -> None:
    with pytest.raises(BadTimeoutError, match="-1"):
        await Worker.start(timeout=-1)


async def test_a_mailbox_of_negative_size_is_refused() -> None:
    class Wrong(Worker):
        mailbox_size = -1

    with pytest.raises(BadSpecError, match=r"Wrong\.mailbox_size=-1"):
        await Wrong.start()


async def test_a_timeout_error_of_inits_own_is_not_the_start_timeout() -> None:
    with pytest.raises(TimeoutError, match="the database") as error:
        await Starting.start(TimeoutError("the database"), timeout=1.0)
    assert not isinstance(error.value, StartTimeoutError)
