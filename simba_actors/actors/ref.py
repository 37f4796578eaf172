"""References: how a process is talked to."""

from __future__ import annotations

import asyncio
import math
import reprlib
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from simba_actors.actors.callers import From
from simba_actors.actors.durations import check_timeout
from simba_actors.actors.errors import (
    CallingSelfError,
    CallTimeoutError,
    MailboxFullError,
    NoProcessError,
    WrongLoopError,
)
from simba_actors.actors.exits import KILLED, NORMAL, ExitReason, check_reason, describe
from simba_actors.actors.process import Process, current_process

R = TypeVar("R")

CALL_TIMEOUT = 5.0
"""Seconds that a call waits for its reply by default, as in OTP."""


class Call(Generic[R]):
    """Base of messages that expect a reply of type R.

    @dataclass(frozen=True, slots=True)
    class Increment(Call[int]):
        by: int = 1

    count = await ref.call(Increment(2))     # a type checker knows that this is an int
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class CastEnvelope:
    """A cast on its way. A call on its way is the `From` of its caller."""

    message: Any


class Address(ABC):
    """Where messages go: a `Ref`, or a name that is looked up at each use."""

    __slots__ = ()

    @abstractmethod
    def process(self) -> Process:
        """The living process behind this address. Raises NoProcessError where there is none."""

    async def call(self, message: Call[R], timeout: float | None = CALL_TIMEOUT) -> R:
        """Sends `message` and waits for the reply, for `timeout` seconds (None: for ever).

        Raises:
            NoProcessError: There is no such process.
            CallTimeoutError: No reply in time; a late one is dropped.
            CallExitError: The server exited first; its `reason` is the exit reason.
            CallingSelfError: The server is calling itself.
            WrongLoopError: The process lives in another event loop. So do the others here.
            BadTimeoutError: `timeout` is no duration.
        """
        process = self.process()
        _check_loop(process)
        caller = current_process()
        if caller is not None:
            _check_caller(caller, process, message)
        sender = process.callers.add(message, timeout)
        try:
            try:
                process.mailbox.put_nowait(sender)
            except asyncio.QueueFull:
                await _put_in_time(process, sender)
            return await sender.future
        except asyncio.CancelledError:
            sender.forget()
            raise
        finally:
            process.callers.remove(sender)

    async def cast(self, message: Any) -> None:
        """Sends `message` and does not wait for it to be handled; waits for room where the mailbox is bounded and full.

        To a dead or unknown process it does nothing.

        Raises:
            MailboxFullError: A server casts to itself, and only it could make room.
        """
        process = self._receiver()
        if process is None:
            return
        if process.mailbox.full() and process is current_process():
            raise MailboxFullError(f"{process.name} can't wait for room in its own mailbox")
        await process.mailbox.put(CastEnvelope(message))

    def cast_nowait(self, message: Any) -> None:
        """Sends `message` at once. To a dead or unknown process it does nothing.

        Raises:
            MailboxFullError: The mailbox is bounded and full; nothing was sent.
        """
        process = self._receiver()
        if process is not None:
            _put(process, CastEnvelope(message))

    def send(self, message: Any) -> None:
        """Sends `message` to `handle_info`. To a dead or unknown process it does nothing.

        Raises:
            MailboxFullError: The mailbox is bounded and full; nothing was sent.
        """
        process = self._receiver()
        if process is not None:
            _put(process, message)

    async def stop(self, reason: ExitReason = NORMAL, timeout: float | None = None) -> ExitReason:
        """Has the server run `terminate` and exit for `reason`, and waits until it has.

        Gives the exit reason, which is another one if it was exiting already, or if `terminate` raised. The request
        passes the messages that wait: they are not handled any more, and callers among them get a CallExitError.

        Raises:
            NoProcessError: It is dead already.
            CallTimeoutError: It did not exit within `timeout` seconds; it may still.
            CallingSelfError: A server is stopping itself; it returns `Stop` instead.
        """
        process = self.process()
        _check_loop(process)
        if process is current_process():
            raise CallingSelfError(f"{process.name} stopped itself: a callback returns Stop(reason) for that")
        check_timeout(timeout)
        check_reason(reason)
        process.request_stop(reason)
        return await _wait(process, timeout)

    async def wait(self, timeout: float | None = None) -> ExitReason:
        """The exit reason, once there is one.

        Raises:
            NoProcessError: There is no such process.
            CallTimeoutError: It still lives after `timeout` seconds.
        """
        return await _wait(self.process(), timeout)

    def exit(self, reason: ExitReason) -> None:
        """Makes the process exit for `reason` at its next await. Returns at once. Does nothing to a dead one."""
        check_reason(reason)
        process = self._receiver()
        if process is not None:
            process.exit(reason)

    def kill(self) -> None:
        """Ends the process at once, without `terminate`. Its task is cancelled, and void where it does not obey."""
        self.exit(KILLED)

    def _receiver(self) -> Process | None:
        """Who gets what is sent now. None where nobody is there, or where the sender was killed and is still at it."""
        sender = current_process()
        if sender is not None and not sender.alive:
            return None
        try:
            process = self.process()
        except NoProcessError:
            return None
        _check_loop(process)
        return process


def _check_loop(process: Process) -> None:
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is not process.loop:
        raise WrongLoopError(f"{process.name} lives in another event loop: use its loop's call_soon_threadsafe")


def _check_caller(caller: Process, callee: Process, message: Any) -> None:
    if caller is callee:
        text = reprlib.repr(message)
        raise CallingSelfError(f"{callee.name} called itself with {text}, and could never answer")
    if not caller.alive:
        raise NoProcessError(f"{caller.name} was killed, and has no say any more")


async def _put_in_time(process: Process, sender: From[Any]) -> None:
    deadline = None if math.isinf(sender.deadline) else sender.deadline
    try:
        async with asyncio.timeout_at(deadline):
            await process.mailbox.put(sender)
    except TimeoutError:
        process.callers.expire(sender)


async def _wait(process: Process, timeout: float | None) -> ExitReason:
    check_timeout(timeout)
    _check_loop(process)
    if process is current_process():
        raise CallingSelfError(f"{process.name} waits for its own end")
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.shield(process.exited)
    except TimeoutError as error:
        raise CallTimeoutError(f"{process.name} did not exit within {timeout} s") from error


def _put(process: Process, item: Any) -> None:
    try:
        process.mailbox.put_nowait(item)
    except asyncio.QueueFull:
        raise MailboxFullError(f"the mailbox of {process.name} is full ({process.mailbox.maxsize} messages)") from None


class Ref(Address):
    """One process, for as long as it lives and after. A restarted server is another one, with another ref."""

    __slots__ = ("__weakref__", "_process")

    def __init__(self, process: Process) -> None:
        self._process = process

    def process(self) -> Process:
        process = self._process
        if not process.alive:
            raise NoProcessError(f"{process.name} is dead ({describe(process.exited.result())})")
        return process

    @property
    def target(self) -> Process:
        """The process, alive or dead."""
        return self._process

    @property
    def name(self) -> str:
        return self._process.name

    @property
    def alive(self) -> bool:
        return self._process.alive

    @property
    def exit_reason(self) -> ExitReason | None:
        """Why the process ended, or None while it lives."""
        return self._process.exit_reason

    async def wait(self, timeout: float | None = None) -> ExitReason:
        """The exit reason, once there is one, however long ago that was.

        Raises:
            CallTimeoutError: It still lives after `timeout` seconds.
        """
        return await _wait(self._process, timeout)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other._process is self._process

    def __hash__(self) -> int:
        return hash(self._process)

    def __repr__(self) -> str:
        return f"<Ref {self.name}#{self._process.serial}{'' if self.alive else ' dead'}>"


class OwningRef(Ref):
    """What the one who starts an unlinked server gets: while it lives, somebody must be able to stop it."""

    __slots__ = ()

    def __del__(self) -> None:
        process = self._process
        if process.alive and not process.links and not process.loop.is_closed():
            warnings.warn(
                f"{process.name} is still running, and nobody can stop it any more: keep the ref and "
                "`await ref.stop()`, or start it under a Supervisor",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
