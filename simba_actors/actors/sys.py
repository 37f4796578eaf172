"""Looking into a running server: its state, its pauses, its statistics. As Erlang's module of that name.

These travel in the fast lane and are answered between callbacks, by a suspended server too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from simba_actors.actors.errors import ActorError
from simba_actors.actors.gen_server import GenServerProcess, Statistics, SystemRequest
from simba_actors.actors.ref import CALL_TIMEOUT, Address, From

R = TypeVar("R")


async def get_state(address: Address, timeout: float | None = CALL_TIMEOUT) -> Any:
    """The server's `state`."""
    return await _request(address, lambda process: process.server.state, timeout)


async def replace_state(address: Address, change: Callable[[Any], Any], timeout: float | None = CALL_TIMEOUT) -> Any:
    """Sets the server's state to `change(state)` and returns it. If `change` raises, so does this: nothing changes."""

    def run(process: GenServerProcess) -> Any:
        process.server.state = change(process.server.state)
        return process.server.state

    return await _request(address, run, timeout)


async def suspend(address: Address, timeout: float | None = CALL_TIMEOUT) -> None:
    """Has the server leave its messages where they are, until `resume`. It can still be shut down."""
    await _request(address, lambda process: setattr(process.mailbox, "suspended", True), timeout)


async def resume(address: Address, timeout: float | None = CALL_TIMEOUT) -> None:
    """Has a suspended server go on."""
    await _request(address, lambda process: setattr(process.mailbox, "suspended", False), timeout)


async def statistics(address: Address, timeout: float | None = CALL_TIMEOUT) -> Statistics:
    """What the server has handled since it started."""
    return await _request(address, lambda process: replace(process.statistics), timeout)


async def _request(address: Address, run: Callable[[GenServerProcess], R], timeout: float | None) -> R:
    process = address.process()
    if not isinstance(process, GenServerProcess):
        raise ActorError(f"{process.name} is no GenServer")
    future: asyncio.Future[R] = process.loop.create_future()
    process.callers.add(future)
    try:
        process.mailbox.put_system(SystemRequest(run, cast("From[Any]", From(future))))
        async with asyncio.timeout(timeout):
            return await future
    finally:
        process.callers.discard(future)
