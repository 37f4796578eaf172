"""Plain processes: a function that runs in a task of its own, linked to the one who spawned it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from simba_actors.actors.exits import NORMAL, ExitReason, describe
from simba_actors.actors.process import Process, current_process, logger
from simba_actors.actors.ref import OwningRef, Ref


class FunctionProcess(Process):
    """Awaits `function(*args)`; `value` is what it gave, once the process has exited normally."""

    def __init__(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], name: str | None = None) -> None:
        super().__init__(name or getattr(function, "__qualname__", repr(function)))
        self._function = function
        self._args = args
        self.value: Any = None

    async def body(self) -> ExitReason:
        self.value = await self._function(*self._args)
        return NORMAL

    def report(self, reason: ExitReason) -> None:
        error = reason if isinstance(reason, BaseException) else None
        logger.error("%s crashed: %s", self.name, describe(reason), exc_info=error)


def spawn(function: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> Ref:
    """Runs `function(*args)` in a process of its own. Keep the ref: whoever drops it gets a ResourceWarning."""
    process = FunctionProcess(function, args, name)
    process.spawn()
    return OwningRef(process)


def spawn_link(function: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> Ref:
    """As `spawn`, linked to the process that calls it: an abnormal end of the function ends that one too, and the
    function is cancelled when that one ends, for whatever reason."""
    process = FunctionProcess(function, args, name)
    parent = current_process()
    if parent is not None:
        process.parent = parent
        process.link(parent)
    process.spawn()
    return Ref(process)
