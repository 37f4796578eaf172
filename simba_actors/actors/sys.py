"""Look at a running server: its state, its statistics. Suspend and resume it. Like Erlang's module `sys`.

>>> import asyncio
>>> from simba_actors.actors import GenServer, sys
>>> class Counter(GenServer[int]):
...     async def init(self):
...         self.state = 0
...     async def handle_cast(self, message):
...         self.state += message
>>> async def main():
...     counter = await Counter.start()
...     await sys.suspend(counter)
...     await counter.cast(2)
...     print(await sys.get_state(counter))  # The cast waits.
...     print(await sys.replace_state(counter, lambda count: count + 40))
...     await sys.resume(counter)
...     await asyncio.sleep(0)
...     print(await sys.get_state(counter))
...     await counter.stop()
>>> asyncio.run(main())
0
40
42

Requests overtake waiting messages and are answered between callbacks, also by a suspended server. All functions raise
NoProcessError, CallTimeoutError and CallExitError as a call does, NotAServerError if the process is not a GenServer,
and CallingSelfError in the server itself, which can use `self.state`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from simba_actors.actors.calls import CALL_TIMEOUT
from simba_actors.actors.errors import CallingSelfError, NotAServerError
from simba_actors.actors.process import current_process
from simba_actors.actors.ref import Address
from simba_actors.actors.server_process import ServerProcess, Statistics, SystemRequest

R = TypeVar("R")


async def get_state(address: Address, timeout: float | None = CALL_TIMEOUT) -> Any:
    """Return the server's `state`."""
    return await _request(address, lambda process: process.server.state, "get_state", timeout)


async def replace_state(address: Address, change: Callable[[Any], Any], timeout: float | None = CALL_TIMEOUT) -> Any:
    """Set the server's state to `change(state)` and return it. If `change` raises, so does this; the state stays."""

    def run(process: ServerProcess) -> Any:
        process.server.state = change(process.server.state)
        return process.server.state

    return await _request(address, run, "replace_state", timeout)


async def suspend(address: Address, timeout: float | None = CALL_TIMEOUT) -> None:
    """Stop handling messages until `resume`. The server can still be shut down."""
    await _request(address, ServerProcess.suspend, "suspend", timeout)


async def resume(address: Address, timeout: float | None = CALL_TIMEOUT) -> None:
    """Handle messages again."""
    await _request(address, ServerProcess.resume, "resume", timeout)


async def statistics(address: Address, timeout: float | None = CALL_TIMEOUT) -> Statistics:
    """Return what the server has handled since it started."""
    return await _request(address, lambda process: replace(process.statistics), "statistics", timeout)


async def _request(address: Address, run: Callable[[ServerProcess], R], what: str, timeout: float | None) -> R:
    process = address.process()
    if not isinstance(process, ServerProcess):
        raise NotAServerError(f"{process.name} is not a GenServer: it has no state and can't be suspended")
    if process is current_process():
        raise CallingSelfError(f"{process.name} called sys.{what} on itself, which would never return")
    sender = process.callers.add(what, timeout)
    try:
        process.mailbox.put_system(SystemRequest(run, sender))
        return await sender.future
    except asyncio.CancelledError:
        sender.discard()
        raise
    finally:
        process.callers.remove(sender)
