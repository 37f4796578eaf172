"""A process: an asyncio task with a mailbox, links, monitors and one exit reason."""

from __future__ import annotations

import asyncio
import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from simba_actors.actors.errors import CallExitError
from simba_actors.actors.exits import KILLED, NORMAL, SHUTDOWN, ExitReason, describe, is_abnormal
from simba_actors.actors.mailbox import Mailbox, SystemMessage

logger = logging.getLogger("simba_actors.actors")

_serial = itertools.count(1)
_current: ContextVar[Process | None] = ContextVar("simba_actors_current_process", default=None)
_tasks: set[asyncio.Task[None]] = set()
"""Holds running tasks, of which asyncio itself keeps weak references only."""


@dataclass(frozen=True, slots=True)
class ExitSignal(SystemMessage):
    """What a process that traps exits gets, in `handle_info`, when a process linked to it ends."""

    process: Process
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Down(SystemMessage):
    """What a monitoring process gets, in `handle_info`, when the process it monitors ends."""

    process: Process
    reason: ExitReason


def current_process() -> Process | None:
    """The process whose own task runs this code, or None."""
    process = _current.get()
    return process if process is not None and process.task is asyncio.current_task() else None


class Process(ABC):
    """Runs `body` in a task of its own until it returns, raises, or is made to exit.

    `exited` is a future with the exit reason, which is never an exception that it raises. A process dies once: from
    then on nothing it does counts, even where its task holds on to its cancellation and goes on for a while.
    """

    def __init__(self, name: str, *, mailbox_size: int = 0, trap_exit: bool = False) -> None:
        self.name = name
        self.serial = next(_serial)
        self.trap_exit = trap_exit
        self.mailbox = Mailbox(mailbox_size)
        self.loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[ExitReason] = self.loop.create_future()
        self.callers: set[asyncio.Future[Any]] = set()
        self.links: set[Process] = set()
        self.monitors: list[Process] = []
        self.on_exit: list[Callable[[], None]] = []
        self.parent: Process | None = None
        self.restarts = 0
        self._asked_to_exit: ExitReason | None = None
        self._ending = False
        self.task: asyncio.Task[None] | None = None

    @abstractmethod
    async def body(self) -> ExitReason:
        """The work. What it returns, or raises, is the exit reason."""

    async def cleanup(self, reason: ExitReason) -> None:
        """Runs before the process ends for `reason`, unless it is killed. What it raises becomes the reason."""

    def report(self, reason: ExitReason) -> None:
        """Tells of an abnormal end."""

    @property
    def alive(self) -> bool:
        return not self.exited.done()

    @property
    def exit_reason(self) -> ExitReason | None:
        """Why the process ended, or None while it lives."""
        return self.exited.result() if self.exited.done() else None

    def spawn(self) -> None:
        self.task = asyncio.create_task(self._main(), name=self.name)
        _tasks.add(self.task)
        self.task.add_done_callback(_tasks.discard)

    def link(self, other: Process) -> None:
        """Ties two processes: when one ends abnormally so does the other, or gets an `ExitSignal` if it traps exits."""
        if not other.alive:
            self.receive_exit(other, other.exited.result())
            return
        self.links.add(other)
        other.links.add(self)

    def unlink(self, other: Process) -> None:
        self.links.discard(other)
        other.links.discard(self)

    def monitor(self, other: Process) -> None:
        """Has this process get a `Down` when `other` ends, at once if it has."""
        if other.alive:
            other.monitors.append(self)
        else:
            self.mailbox.put_system(Down(other, other.exited.result()))

    def exit(self, reason: ExitReason) -> None:
        """Makes the process end for `reason`: at its next await, or at once and without cleanup if that is `KILLED`."""
        if not self.alive:
            return
        if reason == KILLED:
            self._die(KILLED)
            self._cancel()
        elif self._asked_to_exit is None and not self._ending:
            self._asked_to_exit = reason
            self._cancel()

    def request_stop(self, reason: ExitReason) -> None:
        """Has the process end for `reason` when that suits it best."""
        self.exit(reason)

    def receive_exit(self, sender: Process, reason: ExitReason) -> None:
        """An exit signal from a linked process."""
        if not self.alive:
            return
        if self.trap_exit:
            self.mailbox.put_system(ExitSignal(sender, reason))
        elif is_abnormal(reason) or (reason == SHUTDOWN and sender is self.parent):
            self.exit(reason)

    def _cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def _main(self) -> None:
        _current.set(self)
        reason: ExitReason = NORMAL
        cancelled_by_host: asyncio.CancelledError | None = None
        try:
            reason = await self.body()
        except asyncio.CancelledError as cancellation:
            if self._asked_to_exit is None and self.alive:
                reason, cancelled_by_host = SHUTDOWN, cancellation
            else:
                self._forget_cancellation()
                reason = self._asked_to_exit or KILLED
        except (KeyboardInterrupt, SystemExit) as interruption:
            self._die(interruption)
            raise
        except BaseException as error:  # noqa: BLE001 - any error is an exit reason; the supervisor hears of it
            reason = error
        await self._end(reason)
        if cancelled_by_host is not None:
            raise cancelled_by_host

    async def _end(self, reason: ExitReason) -> None:
        if not self.alive:
            return
        self._ending = True
        try:
            await self.cleanup(reason)
        except asyncio.CancelledError:
            self._forget_cancellation()
        except Exception as error:  # noqa: BLE001 - an error in cleanup is the exit reason, and reported
            reason = error
        if self.alive:
            if is_abnormal(reason):
                self.report(reason)
            self._die(reason)

    def _forget_cancellation(self) -> None:
        if self.task is not None:
            self.task.uncancel()

    def _die(self, reason: ExitReason) -> None:
        self.exited.set_result(reason)
        for forget in self.on_exit:
            forget()
        self.fail_callers(reason)
        self.mailbox.close()
        for other in list(self.links):
            self.unlink(other)
            other.receive_exit(self, reason)
        for watcher in self.monitors:
            if watcher.alive:
                watcher.mailbox.put_system(Down(self, reason))
        self.monitors.clear()

    def fail_callers(self, reason: ExitReason) -> None:
        """Tells everyone who waits for a reply that none will come."""
        for caller in list(self.callers):
            if not caller.done():
                caller.set_exception(CallExitError(f"{self.name} exited ({describe(reason)})", reason))
        self.callers.clear()
