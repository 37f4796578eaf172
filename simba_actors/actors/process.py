"""Processes: asyncio tasks with a mailbox, links, monitors and one exit reason."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from simba_actors.actors.calls import Callers
from simba_actors.actors.errors import CallExitError, StrayCancellationError
from simba_actors.actors.exits import KILLED, NORMAL, SHUTDOWN, ExitReason, describe, is_abnormal

logger = logging.getLogger("simba_actors.actors")

REAP_SECONDS = 0.1
"""Seconds to wait for the task of a killed process to end. Most tasks end at once when they are cancelled."""

_serial = itertools.count(1)
_current: ContextVar[Process | None] = ContextVar("simba_actors_current_process", default=None)
_tasks: set[asyncio.Task[None]] = set()
"""Strong references to running tasks, since asyncio keeps only weak ones."""


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Base of messages that use the fast lane: exit signals, stop requests, requests of the `sys` module."""


@dataclass(frozen=True, slots=True)
class ExitSignal(SystemMessage):
    """The message that `handle_info` of a process with `trap_exit` gets when a linked process ends."""

    process: Process
    """The process that ended."""
    reason: ExitReason
    """Why it ended."""


@dataclass(frozen=True, slots=True)
class Down(SystemMessage):
    """The message that `handle_info` of a monitoring process gets when the monitored process ends."""

    process: Process
    """The process that ended."""
    reason: ExitReason
    """Why it ended."""


@dataclass(frozen=True, slots=True)
class CastEnvelope:
    """A cast in a mailbox. A call in a mailbox is the `From` of its caller."""

    message: Any


class Mailbox(asyncio.Queue[Any]):
    """A first-in, first-out queue that delivers system messages before all others.

    `maxsize` bounds the ordinary messages; 0 means no bound. In a full mailbox `put` waits for room and `put_nowait`
    raises `asyncio.QueueFull`. No message is ever dropped. System messages ignore the bound, so that a process with a
    full mailbox can still be shut down. A suspended mailbox delivers system messages only. A closed mailbox accepts
    everything and keeps nothing.
    """

    suspended = False
    _maxsize: int
    _getters: deque[asyncio.Future[None]]
    _putters: deque[asyncio.Future[None]]

    def _init(self, maxsize: int) -> None:
        self._ordinary: deque[Any] = deque()
        self._system: deque[SystemMessage] = deque()

    def _get(self) -> Any:
        return self._system.popleft() if self._system else self._ordinary.popleft()

    def qsize(self) -> int:
        return len(self._system) + len(self._ordinary)

    def empty(self) -> bool:
        return not self._system and (self.suspended or not self._ordinary)

    def full(self) -> bool:
        return 0 < self._maxsize <= len(self._ordinary)

    def put_nowait(self, item: Any) -> None:
        if self.full():
            raise asyncio.QueueFull
        self._ordinary.append(item)
        self._wake(self._getters)

    def put_system(self, message: SystemMessage) -> None:
        """Add `message` to the fast lane, regardless of the bound."""
        self._system.append(message)
        self._wake(self._getters)

    def close(self) -> None:
        """Drop all messages and wake everyone who waits to add one."""
        self._ordinary = deque(maxlen=0)
        self._system = deque(maxlen=0)
        while self._putters:
            self._wake(self._putters)

    @staticmethod
    def _wake(waiters: deque[asyncio.Future[None]]) -> None:
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break


def current_process() -> Process | None:
    """Return the process whose task runs this code, or None.

    The process may be dead: a task that ignores its cancellation keeps running after it was killed.
    """
    process = _current.get()
    return process if process is not None and process.task is asyncio.current_task() else None


class Process(ABC):
    """Runs `body` in its own task until it returns, raises, or is asked to exit.

    `exited` is a future whose result is the exit reason; it never raises. A process dies once. From then on nothing
    that its task does has any effect, even if the task ignores its cancellation and runs on for a while.
    """

    def __init__(self, name: str, *, mailbox_size: int = 0, trap_exit: bool = False) -> None:
        self.name = name
        self.serial = next(_serial)
        self.trap_exit = trap_exit
        self.mailbox = Mailbox(mailbox_size)
        self.loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[ExitReason] = self.loop.create_future()
        self.callers = Callers(self.loop, name)
        self.links: dict[Process, None] = {}  # Dictionaries keep signals in a fixed order.
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
        """Do the work. The value returned, or the exception raised, is the exit reason."""

    async def cleanup(self, reason: ExitReason) -> None:
        """Clean up before the process exits, unless it is killed. An exception raised here becomes the exit reason."""

    def report(self, reason: ExitReason) -> None:
        """Log an abnormal exit."""

    @property
    def alive(self) -> bool:
        return not self.exited.done()

    @property
    def exit_reason(self) -> ExitReason | None:
        """Why the process ended, or None while it is alive."""
        return self.exited.result() if self.exited.done() else None

    def spawn(self) -> None:
        """Start the task, unless the process has been killed already."""
        if self.alive:
            self.task = asyncio.create_task(self._main(), name=self.name)
            _tasks.add(self.task)
            self.task.add_done_callback(self._task_done)

    def link(self, other: Process) -> None:
        """Link two processes: when one exits abnormally, so does the other, or it gets an `ExitSignal`.

        A child exits with its parent, whatever the reason. If one of the two is dead, the other gets the exit signal
        at once.
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
        """Send this process a `Down` when `other` ends, or at once if it has ended."""
        if other.alive:
            self.monitors[other] = None
            other.monitored_by[self] = None
        else:
            self.mailbox.put_system(Down(other, other.exited.result()))

    def demonitor(self, other: Process) -> None:
        self.monitors.pop(other, None)
        other.monitored_by.pop(self, None)

    def exit(self, reason: ExitReason) -> None:
        """Make the process exit at its next await, or at once and without cleanup if `reason` is `KILLED`."""
        if reason == KILLED:
            self.abandon(KILLED)
        elif self.alive and self.asked_to_exit is None and not self._ending:
            self.asked_to_exit = reason
            if self.task is None:
                self.die(reason)
            self._cancel()

    def abandon(self, reason: ExitReason) -> None:
        """Declare the process dead at once, without cleanup, and cancel its task."""
        if self.alive:
            self.asked_to_exit = reason
            self.die(reason)
            self._cancel()

    async def reap(self) -> None:
        """Wait up to 0.1 s until the task of a dead process has ended. The task may ignore its cancellation."""
        if self.task is not None and not self.task.done():
            await asyncio.wait([self.task], timeout=REAP_SECONDS)

    async def shut_down(self, parent: Process, grace_period: float) -> ExitReason:
        """Ask the process to shut down, kill it after `grace_period` seconds, and return its exit reason.

        A grace period of 0 kills the process at once.
        """
        if grace_period > 0:
            self.receive_exit(parent, SHUTDOWN)
            try:
                async with asyncio.timeout(None if math.isinf(grace_period) else grace_period):
                    return await asyncio.shield(self.exited)
            except TimeoutError:
                logger.warning("%s did not shut down within %g s: killing it", self.name, grace_period)
        self.exit(KILLED)
        await self.reap()
        return self.exited.result()

    def request_stop(self, reason: ExitReason) -> None:
        """Ask the process to exit. A GenServer finishes the callback that is running first."""
        self.exit(reason)

    def receive_exit(self, sender: Process, reason: ExitReason) -> None:
        """Handle an exit signal from a linked process or from the parent."""
        if not self.alive:
            return
        if self.trap_exit:
            self.mailbox.put_system(ExitSignal(sender, reason))
        elif reason == KILLED:
            self.loop.call_soon(self.exit, KILLED)  # Scheduled: a long chain of links would recurse too deep.
        elif reason != NORMAL:
            self.exit(reason)

    def die(self, reason: ExitReason) -> None:
        """Set the exit reason and notify callers, links and monitors. The process is dead from now on."""
        self.exited.set_result(reason)
        for callback in self.on_exit:
            try:
                callback()
            except Exception:
                logger.exception("an on_exit callback of %s raised", self.name)
        self.callers.fail(lambda: CallExitError(f"{self.name} exited ({describe(reason)})", reason))
        self.mailbox.close()
        for other in list(self.links):
            self.unlink(other)
            # A child is left without its owner, even if its parent exited normally.
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
            return self._reason_for(cancellation)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - any error is an exit reason, which the supervisor handles
            return error

    async def _end(self, reason: ExitReason) -> None:
        self._ending = True
        await self._undo_cancellations()
        try:
            if self.alive:
                await self.cleanup(reason)
        except asyncio.CancelledError as cancellation:
            if not self._cancelled_by_host(_current_task()):
                reason = self._stray(cancellation)
        except Exception as error:  # noqa: BLE001 - an error in cleanup is the exit reason and is reported
            reason = error
        if self.alive:
            if is_abnormal(reason):
                self.report(reason)
            self.die(reason)

    def _reason_for(self, cancellation: asyncio.CancelledError) -> ExitReason:
        if self.asked_to_exit is not None:
            return self.asked_to_exit
        return SHUTDOWN if self._cancelled_by_host(_current_task()) else self._stray(cancellation)

    def _stray(self, cancellation: asyncio.CancelledError) -> ExitReason:
        error = StrayCancellationError(
            f"{self.name} awaited something that was cancelled, without being cancelled itself"
        )
        error.__cause__ = cancellation
        return error

    def _cancelled_by_host(self, task: asyncio.Task[None]) -> bool:
        return task.cancelling() > self._cancellations

    async def _undo_cancellations(self) -> None:
        """Undo the cancellations that `exit` made, delivered or not, so that cleanup can await."""
        if not self._cancellations:
            return
        with suppress(asyncio.CancelledError):  # The host's own cancellation stays counted in the task.
            await asyncio.sleep(0)
        task = _current_task()
        for _ in range(self._cancellations):
            task.uncancel()
        self._cancellations = 0

    def _task_done(self, task: asyncio.Task[None]) -> None:
        _tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self.alive:  # The task was cancelled before its first step.
            self.die(self.asked_to_exit or error or SHUTDOWN)
        # Contexts are copies that may outlive the task, such as that of a connection it opened. Hold no family there.
        self.parent = None


def _current_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a process must run in a task")
    return task
