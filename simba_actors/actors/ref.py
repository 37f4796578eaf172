"""References: how a process is talked to."""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from simba_actors.actors.errors import CallingSelfError, CallTimeoutError, MailboxFullError, NoProcessError
from simba_actors.actors.exits import KILLED, NORMAL, ExitReason, describe
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


@dataclass(frozen=True, slots=True, eq=False)
class From(Generic[R]):
    """Who waits for a reply: what `handle_call` gets as `sender`."""

    future: asyncio.Future[R]


def reply(sender: From[R], value: R) -> None:
    """Answers a call that `handle_call` left open with `NoReply`. An answer nobody waits for any more is dropped."""
    if not sender.future.done():
        sender.future.set_result(value)


@dataclass(frozen=True, slots=True)
class CallEnvelope:
    """A call on its way: the message and who waits."""

    message: Any
    sender: From[Any]


@dataclass(frozen=True, slots=True)
class CastEnvelope:
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
        """
        process = self.process()
        if process.task is asyncio.current_task():
            raise CallingSelfError(f"{process.name} called itself with {message!r}, and could never answer")
        future: asyncio.Future[R] = process.loop.create_future()
        process.callers.add(future)
        timer = None
        if timeout is not None:
            timer = process.loop.call_later(timeout, _expire, future, process, message, timeout)
        try:
            mailbox = process.mailbox
            if mailbox.full():
                await mailbox.put(CallEnvelope(message, From(future)))
            else:
                mailbox.put_nowait(CallEnvelope(message, From(future)))
            return await future
        finally:
            process.callers.discard(future)
            if timer is not None:
                timer.cancel()

    async def cast(self, message: Any) -> None:
        """Sends `message` and does not wait for it to be handled; waits for room where the mailbox is bounded and full.

        To a dead or unknown process it does nothing.
        """
        try:
            mailbox = self.process().mailbox
        except NoProcessError:
            return
        await mailbox.put(CastEnvelope(message))

    def cast_nowait(self, message: Any) -> None:
        """Sends `message` at once. To a dead or unknown process it does nothing.

        Raises:
            MailboxFullError: The mailbox is bounded and full; nothing was sent.
        """
        try:
            process = self.process()
        except NoProcessError:
            return
        _put(process, CastEnvelope(message))

    def send(self, message: Any) -> None:
        """Sends `message` to `handle_info`. To a dead or unknown process it does nothing.

        Raises:
            MailboxFullError: The mailbox is bounded and full; nothing was sent.
        """
        try:
            process = self.process()
        except NoProcessError:
            return
        _put(process, message)

    async def stop(self, reason: ExitReason = NORMAL, timeout: float | None = None) -> None:
        """Has the server run `terminate` and exit for `reason`, and waits until it has.

        Raises:
            NoProcessError: It is dead already.
            CallTimeoutError: It did not exit within `timeout` seconds; it may still.
            CallingSelfError: A server is stopping itself; it returns `Stop` instead.
        """
        process = self.process()
        if process is current_process():
            raise CallingSelfError(f"{process.name} stopped itself: a callback returns Stop(reason) for that")
        process.request_stop(reason)
        await _wait(process, timeout)

    async def wait(self, timeout: float | None = None) -> ExitReason:
        """The exit reason, once there is one.

        Raises:
            NoProcessError: There is no such process.
            CallTimeoutError: It still lives after `timeout` seconds.
        """
        return await _wait(self.process(), timeout)

    def exit(self, reason: ExitReason) -> None:
        """Makes the process exit for `reason` at its next await. Returns at once."""
        self.process().exit(reason)

    def kill(self) -> None:
        """Ends the process at once, without `terminate`. Its task is cancelled, and void where it does not obey."""
        self.process().exit(KILLED)


async def _wait(process: Process, timeout: float | None) -> ExitReason:
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.shield(process.exited)
    except TimeoutError as error:
        raise CallTimeoutError(f"{process.name} did not exit within {timeout} s") from error


def _expire(future: asyncio.Future[Any], process: Process, message: Any, timeout: float) -> None:
    if not future.done():
        future.set_exception(CallTimeoutError(f"no reply from {process.name} to {message!r} within {timeout} s"))


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
