"""A process: an asyncio task with a mailbox, links, monitors and one exit reason."""

from __future__ import annotations

import asyncio
import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass

from simba_actors.actors.callers import Callers
from simba_actors.actors.errors import CallExitError, StrayCancellationError
from simba_actors.actors.exits import KILLED, NORMAL, SHUTDOWN, ExitReason, describe, is_abnormal
from simba_actors.actors.mailbox import Mailbox, SystemMessage

logger = logging.getLogger("simba_actors.actors")

REAP_SECONDS = 0.1
"""How long a killed process's task is waited for, so that one that obeys is gone when its killer goes on."""

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
    """The process whose own task runs this code, or None. It may be dead: killed, and still at it."""
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
        self.callers = Callers(self.loop, name)
        self.links: dict[Process, None] = {}  # Dictionaries, so that signals go out in the same order each time.
        self.monitors: dict[Process, None] = {}
        self.monitored_by: dict[Process, None] = {}
        self.on_exit: list[Callable[[], None]] = []
        self.parent: Process | None = None
        self.restarts = 0
        self.task: asyncio.Task[None] | None = None
        self.asked_to_exit: ExitReason | None = None
        self._ending = False
        self._cancellations = 0

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
        """Starts the task, unless the process was killed first."""
        if self.alive:
            self.task = asyncio.create_task(self._main(), name=self.name)
            _tasks.add(self.task)
            self.task.add_done_callback(self._task_done)

    def link(self, other: Process) -> None:
        """Ties two processes: when one ends abnormally so does the other, or gets an `ExitSignal` if it traps exits.

        A child ends with its parent whatever the reason. Where one is dead, the other gets its exit signal at once.
        """
        if not other.alive:
            self.receive_exit(other, other.exited.result())
        elif not self.alive:
            other.receive_exit(self, self.exited.result())
        else:
            self.links[other] = None
            other.links[self] = None

    def unlink(self, other: Process) -> None:
        self.links.pop(other, None)
        other.links.pop(self, None)

    def monitor(self, other: Process) -> None:
        """Has this process get a `Down` when `other` ends, at once if it has."""
        if other.alive:
            self.monitors[other] = None
            other.monitored_by[self] = None
        else:
            self.mailbox.put_system(Down(other, other.exited.result()))

    def demonitor(self, other: Process) -> None:
        self.monitors.pop(other, None)
        other.monitored_by.pop(self, None)

    def exit(self, reason: ExitReason) -> None:
        """Makes the process end for `reason`: at its next await, or at once and without cleanup if that is `KILLED`."""
        if reason == KILLED:
            self.abandon(KILLED)
        elif self.alive and self.asked_to_exit is None and not self._ending:
            self.asked_to_exit = reason
            if self.task is None:
                self.die(reason)
            self._cancel()

    def abandon(self, reason: ExitReason) -> None:
        """Declares the process dead at once, without cleanup, and cancels its task."""
        if self.alive:
            self.asked_to_exit = reason
            self.die(reason)
            self._cancel()

    async def reap(self) -> None:
        """Waits until the task of a dead process is gone, for 0.1 s at most: it may hold on to its cancellation."""
        if self.task is not None and not self.task.done():
            await asyncio.wait([self.task], timeout=REAP_SECONDS)

    def request_stop(self, reason: ExitReason) -> None:
        """Has the process end for `reason` when that suits it best."""
        self.exit(reason)

    def receive_exit(self, sender: Process, reason: ExitReason) -> None:
        """An exit signal from a linked process, or from the parent."""
        if not self.alive:
            return
        if self.trap_exit:
            self.mailbox.put_system(ExitSignal(sender, reason))
        elif reason == KILLED:
            self.loop.call_soon(self.exit, KILLED)  # Not at once: a long chain of links would be as deep a recursion.
        elif reason != NORMAL:
            self.exit(reason)

    def die(self, reason: ExitReason) -> None:
        """Makes `reason` the exit reason, and tells everyone who has to hear of it. The process is dead then."""
        self.exited.set_result(reason)
        for hear in self.on_exit:
            try:
                hear()
            except Exception:
                logger.exception("%s ended, and what was to hear of it raised", self.name)
        self.callers.fail(lambda: CallExitError(f"{self.name} exited ({describe(reason)})", reason))
        self.mailbox.close()
        for other in list(self.links):
            self.unlink(other)
            # A child has no owner left, even where its parent's end was a normal one.
            other.receive_exit(self, SHUTDOWN if reason == NORMAL and other.parent is self else reason)
        for watcher in list(self.monitored_by):
            watcher.mailbox.put_system(Down(self, reason))
            watcher.demonitor(self)
        for watched in list(self.monitors):
            self.demonitor(watched)

    def _cancel(self) -> None:
        if self.task is not None:
            self._cancellations += 1
            self.task.cancel()

    async def _main(self) -> None:
        task = self.task = _current_task()
        _current.set(self)
        try:
            await self._end(await self._run())
        except (KeyboardInterrupt, SystemExit) as interruption:
            if self.alive:
                self.die(interruption)
            raise
        if self._cancelled_by_host(task):
            raise asyncio.CancelledError

    async def _run(self) -> ExitReason:
        try:
            return await self.body() if self.asked_to_exit is None else self.asked_to_exit
        except asyncio.CancelledError as cancellation:
            return self._meaning_of(cancellation)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - any error is an exit reason; the supervisor hears of it
            return error

    async def _end(self, reason: ExitReason) -> None:
        self._ending = True
        await self._take_back_cancellations()
        try:
            if self.alive:
                await self.cleanup(reason)
        except asyncio.CancelledError as cancellation:
            if not self._cancelled_by_host(_current_task()):
                reason = self._stray(cancellation)
        except Exception as error:  # noqa: BLE001 - an error in cleanup is the exit reason, and reported
            reason = error
        if self.alive:
            if is_abnormal(reason):
                self.report(reason)
            self.die(reason)

    def _meaning_of(self, cancellation: asyncio.CancelledError) -> ExitReason:
        if self.asked_to_exit is not None:
            return self.asked_to_exit
        return SHUTDOWN if self._cancelled_by_host(_current_task()) else self._stray(cancellation)

    def _stray(self, cancellation: asyncio.CancelledError) -> ExitReason:
        error = StrayCancellationError(f"{self.name} awaited something that was cancelled, without being so itself")
        error.__cause__ = cancellation
        return error

    def _cancelled_by_host(self, task: asyncio.Task[None]) -> bool:
        return task.cancelling() > self._cancellations

    async def _take_back_cancellations(self) -> None:
        """Has `exit`'s own cancellations be over, whether or not they were delivered, so that cleanup can await."""
        if not self._cancellations:
            return
        with suppress(asyncio.CancelledError):  # One of the host's stays counted in the task.
            await asyncio.sleep(0)
        task = _current_task()
        for _ in range(self._cancellations):
            task.uncancel()
        self._cancellations = 0

    def _task_done(self, task: asyncio.Task[None]) -> None:
        _tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self.alive:  # It was cancelled before its first step.
            self.die(self.asked_to_exit or error or SHUTDOWN)


def _current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a process runs in a task")
    return task
