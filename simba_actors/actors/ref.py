"""Addresses of processes, which send messages and stop: refs, and names in a registry."""

from __future__ import annotations

import asyncio
import math
import reprlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from simba_actors.actors.calls import CALL_TIMEOUT, Call, From, check_timeout
from simba_actors.actors.errors import (
    AlreadyRegisteredError,
    CallingSelfError,
    CallTimeoutError,
    MailboxFullError,
    NoProcessError,
    WrongLoopError,
)
from simba_actors.actors.exits import KILLED, NORMAL, ExitReason, check_reason, describe
from simba_actors.actors.process import CastEnvelope, Process, current_process

R = TypeVar("R")


class Address(ABC):
    """Address of a process: a `Ref`, or a name that is looked up on each use.

        count = await address.call(Increment(2))      # wait for the reply
        await address.cast(Increment(2))              # do not wait for it
        address.send("anything")                      # to handle_info
        reason = await address.stop()

    Every method raises WrongLoopError if the process belongs to another event loop.
    """

    __slots__ = ()

    @abstractmethod
    def process(self) -> Process:
        """Return the living process at this address.

        Raises:
            NoProcessError: There is none.
        """

    async def call(self, message: Call[R], timeout: float | None = CALL_TIMEOUT) -> R:
        """Send `message` and return the reply.

        Args:
            message: Goes to `handle_call`.
            timeout: Seconds to wait, 5 by default; None waits without a limit.

        Raises:
            NoProcessError: The process is dead or unknown.
            CallTimeoutError: No reply arrived in time. A later one is dropped.
            CallExitError: The server exited before it replied; `reason` is its exit reason.
            CallingSelfError: The server is calling itself.
            WrongLoopError: The process belongs to another event loop.
            BadTimeoutError: `timeout` is not a number of seconds.
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
                await _put_before_deadline(process, sender)
            return await sender.future
        except asyncio.CancelledError:
            sender.discard()
            raise
        finally:
            process.callers.remove(sender)

    async def cast(self, message: Any) -> None:
        """Send `message` to `handle_cast` without waiting until it is handled.

        Waits for room if the mailbox is bounded and full. Does nothing if the process is dead or unknown.

        Raises:
            MailboxFullError: A server casts to itself, and its own mailbox is full.
        """
        process = self._receiver()
        if process is None:
            return
        if process.mailbox.full() and process is current_process():
            raise MailboxFullError(f"{process.name} can't wait for room in its own mailbox")
        await process.mailbox.put(CastEnvelope(message))

    def cast_nowait(self, message: Any) -> None:
        """Send `message` to `handle_cast` at once. Does nothing if the process is dead or unknown.

        Raises:
            MailboxFullError: The mailbox is bounded and full. Nothing was sent.
        """
        process = self._receiver()
        if process is not None:
            _put(process, CastEnvelope(message))

    def send(self, message: Any) -> None:
        """Send `message` to `handle_info` at once. Does nothing if the process is dead or unknown.

        Raises:
            MailboxFullError: The mailbox is bounded and full. Nothing was sent.
        """
        process = self._receiver()
        if process is not None:
            _put(process, message)

    async def stop(self, reason: ExitReason = NORMAL, timeout: float | None = None) -> ExitReason:
        """Ask the server to run `terminate` and exit, wait until it has, and return its exit reason.

        The exit reason differs from `reason` if the server was exiting already or if `terminate` raised. The request
        overtakes waiting messages: they are not handled, and their callers get a CallExitError.

        Args:
            reason: The exit reason.
            timeout: Seconds to wait; None waits without a limit.

        Raises:
            NoProcessError: The process is dead or unknown.
            CallTimeoutError: It has not exited within `timeout` seconds. It may still do so.
            CallingSelfError: A server stops itself. Return `Stop` from a callback instead.
            BadReasonError: `reason` is neither an `Exit` nor an exception.
        """
        process = self.process()
        _check_loop(process)
        if process is current_process():
            raise CallingSelfError(f"{process.name} can't stop itself: return Stop(reason) from a callback instead")
        check_timeout(timeout)
        check_reason(reason)
        process.request_stop(reason)
        return await _wait(process, timeout)

    async def wait(self, timeout: float | None = None) -> ExitReason:
        """Wait until the process has ended and return its exit reason.

        Raises:
            NoProcessError: The process is dead or unknown.
            CallTimeoutError: It is still alive after `timeout` seconds.
        """
        return await _wait(self.process(), timeout)

    def exit(self, reason: ExitReason) -> None:
        """Make the process exit at its next await. Returns at once. Does nothing if the process is dead or unknown."""
        check_reason(reason)
        process = self._receiver()
        if process is not None:
            process.exit(reason)

    def kill(self) -> None:
        """End the process at once, without `terminate`. If its task ignores the cancellation, it has no effect."""
        self.exit(KILLED)

    def _receiver(self) -> Process | None:
        """Return the living process, or None if there is none or if the sender itself has been killed."""
        sender = current_process()
        if sender is not None and not sender.alive:
            return None
        try:
            process = self.process()
        except NoProcessError:
            return None
        _check_loop(process)
        return process


class Ref(Address):
    """One process, alive or dead. A restarted server has a new ref."""

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
        """The process's name in log records and errors."""
        return self._process.name

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.alive

    @property
    def exit_reason(self) -> ExitReason | None:
        """Why the process ended, or None while it is alive."""
        return self._process.exit_reason

    async def wait(self, timeout: float | None = None) -> ExitReason:
        """Wait until the process has ended and return its exit reason, also if it ended long ago.

        Raises:
            CallTimeoutError: It is still alive after `timeout` seconds.
        """
        return await _wait(self._process, timeout)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other._process is self._process

    def __hash__(self) -> int:
        return hash(self._process)

    def __repr__(self) -> str:
        return f"<Ref {self.name}#{self._process.serial}{'' if self.alive else ' dead'}>"


class OwningRef(Ref):
    """The ref of an unlinked process. Dropping the last one while the process is alive is a ResourceWarning."""

    __slots__ = ()

    def __del__(self) -> None:
        process = self._process
        if process.alive and not process.links and not process.loop.is_closed():
            warnings.warn(
                f"{process.name} is still running and nothing can stop it any more: keep the ref and "
                "`await ref.stop()`, or start it under a Supervisor",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


def _check_loop(process: Process) -> None:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is not process.loop:
        raise WrongLoopError(f"{process.name} belongs to another event loop: use that loop's call_soon_threadsafe")


def _check_caller(caller: Process, callee: Process, message: Any) -> None:
    if caller is callee:
        text = reprlib.repr(message)
        raise CallingSelfError(f"{callee.name} called itself with {text}, which would never return")
    if not caller.alive:
        raise NoProcessError(f"{caller.name} was killed and can't make calls any more")


async def _put_before_deadline(process: Process, sender: From[Any]) -> None:
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
        raise CallingSelfError(f"{process.name} can't wait for its own exit")
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


class Registry:
    """Finds a process by a key, across restarts.

    >>> import asyncio
    >>> from simba_actors.actors import GenServer, Registry
    >>> class Printer(GenServer[None]):
    ...     async def handle_cast(self, message):
    ...         print(message)
    >>> async def main():
    ...     registry = Registry()
    ...     await Printer.start(name="printer", registry=registry)
    ...     printer = registry.via("printer")
    ...     await printer.cast("hello")
    ...     await asyncio.sleep(0)
    ...     await printer.stop()
    ...     print(registry.whereis("printer"))
    >>> asyncio.run(main())
    hello
    None

    Each key belongs to one process at a time. When that process ends, the key is free before anyone is notified.
    """

    def __init__(self) -> None:
        self._owners: dict[Hashable, Process] = {}

    def register(self, key: Hashable, ref: Ref) -> None:
        """Register the process of `ref` under `key`.

        Raises:
            AlreadyRegisteredError: A living process has this key. The error carries its ref.
            NoProcessError: The process is dead.
        """
        owner = self._owners.get(key)
        if owner is not None:
            raise AlreadyRegisteredError(f"{key!r} is already registered by {owner.name}", Ref(owner))
        process = ref.process()
        self._owners[key] = process
        process.on_exit.append(lambda: self.unregister(key, ref))

    def unregister(self, key: Hashable, ref: Ref) -> None:
        """Free `key`, if it belongs to the process of `ref`."""
        if self._owners.get(key) is ref.target:
            del self._owners[key]

    def whereis(self, key: Hashable) -> Ref | None:
        """Return the ref of the living process with this key, or None."""
        owner = self._owners.get(key)
        return None if owner is None else Ref(owner)

    def keys(self) -> list[Hashable]:
        """Return all keys, in the order of their registration."""
        return list(self._owners)

    def via(self, key: Hashable) -> Via:
        """Return an address that looks up `key` each time it is used."""
        return Via(self, key)


@dataclass(frozen=True, slots=True)
class Via(Address):
    """The process that has a key at the time a message is sent."""

    registry: Registry
    key: Hashable

    def process(self) -> Process:
        ref = self.registry.whereis(self.key)
        if ref is None:
            raise NoProcessError(f"no process is registered as {self.key!r}")
        return ref.process()
