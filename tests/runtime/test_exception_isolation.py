"""An exception of a student ends its rollout, but neither its task nor the host."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from types import FrameType
from typing import Any

import pytest

from simba_actors.runtime.exception_isolation import isolated


async def raises(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [GeneratorExit(), SystemExit(1), asyncio.CancelledError()], ids=repr)
async def test_an_error_of_the_interpreters_is_one_like_any_other(error: BaseException) -> None:
    with pytest.raises(RuntimeError, match=f"{type(error).__name__}.* was not caught"):
        await isolated(raises(error))


def exits_and_ignores_the_next(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(7)


@pytest.mark.parametrize("handler", [exits_and_ignores_the_next, lambda *_: sys.exit(7)], ids=["function", "lambda"])
def test_a_signal_handler_that_exits_ends_the_host_whatever_it_interrupts(handler: Any) -> None:
    async def interrupted() -> None:
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(SystemExit) as raised:
            asyncio.run(isolated(interrupted()))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert raised.value.code == 7


async def test_an_error_of_the_users_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError):
        await isolated(raises(KeyError("x")))


async def test_a_coroutine_can_be_closed() -> None:
    closed: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append("closed")

    work: Any = isolated(waits())
    work.send(None)
    await asyncio.to_thread(work.close)
    assert closed == ["closed"]
    gc.collect()
