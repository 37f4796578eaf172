"""Spawned functions, links and monitors: processes without a server, and how processes notice each other's end.

>>> import asyncio
>>> from simba_actors.actors import Down, GenServer, monitor, spawn
>>> async def work():
...     await asyncio.sleep(0.01)
>>> class Watcher(GenServer[None]):
...     async def init(self):
...         self.worker = spawn(work)
...         monitor(self.worker)
...     async def handle_info(self, message):
...         match message:
...             case Down(reason=reason):
...                 print("the worker exited:", reason)
>>> async def main():
...     watcher = await Watcher.start()
...     await asyncio.sleep(0.05)
...     await watcher.stop()
>>> asyncio.run(main())
the worker exited: normal

`link`, `unlink`, `monitor` and `demonitor` act for the process that calls them, and raise NotInAProcessError elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from simba_actors.actors.errors import NotInAProcessError
from simba_actors.actors.exits import NORMAL, ExitReason, describe
from simba_actors.actors.process import Process, current_process, logger
from simba_actors.actors.ref import OwningRef, Ref


class FunctionProcess(Process):
    """A process that awaits `function(*args)`. `value` is the result once the process has exited normally."""

    def __init__(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], name: str | None = None) -> None:
        super().__init__(name or getattr(function, "__qualname__", repr(function)))
        self._function = function
        self._args = args
        self.value: Any = None

    async def body(self) -> ExitReason:
        function, args = self._function, self._args
        self._function, self._args = _done, ()  # Contexts of the task may outlive it, and this process with them.
        self.value = await function(*args)
        return NORMAL

    def report(self, reason: ExitReason) -> None:
        error = reason if isinstance(reason, BaseException) else None
        logger.error("%s crashed: %s", self.name, describe(reason), exc_info=error)


async def _done() -> None:
    """Replace a function that runs or has run."""


def spawn(function: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> Ref:
    """Run `function(*args)` in a new process and return its ref.

    Keep the ref: dropping it while the function runs is a ResourceWarning. An exception that the function raises is
    the exit reason and is logged.
    """
    process = FunctionProcess(function, args, name)
    process.spawn()
    return OwningRef(process)


def spawn_link(function: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> Ref:
    """Run `function(*args)` in a new process that is linked to the current one, and return its ref.

    If the function raises, the current process exits too, unless it traps exits. If the current process exits, for
    whatever reason, the function is cancelled.
    """
    process = FunctionProcess(function, args, name)
    parent = current_process()
    if parent is not None:
        process.parent = parent
        process.link(parent)
    process.spawn()
    return Ref(process)


def link(ref: Ref) -> None:
    """Link the current process to another: when one exits abnormally, the other exits too.

    A process with `trap_exit` does not exit. It gets an `ExitSignal` in `handle_info`, whatever the reason. Linking to
    a dead process has the same effect at once.
    """
    _current("link").link(ref.target)


def unlink(ref: Ref) -> None:
    """Remove the link between the current process and another."""
    _current("unlink").unlink(ref.target)


def monitor(ref: Ref) -> None:
    """Send the current process a `Down` in `handle_info` when the other ends, or at once if it has ended."""
    _current("monitor").monitor(ref.target)


def demonitor(ref: Ref) -> None:
    """Stop monitoring another process. A `Down` that is already in the mailbox still arrives."""
    _current("demonitor").demonitor(ref.target)


def _current(function: str) -> Process:
    process = current_process()
    if process is None:
        raise NotInAProcessError(f"{function}() must be called in a process, such as in a callback of a GenServer")
    return process
