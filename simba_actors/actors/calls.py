"""Calls: messages that expect a reply, and the callers that wait for one."""

from __future__ import annotations

import asyncio
import math
import reprlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from simba_actors.actors.errors import BadTimeoutError, CallTimeoutError

R = TypeVar("R")

CALL_TIMEOUT = 5.0
"""Default seconds to wait for a reply, as in OTP."""


class Call(Generic[R]):
    """Base of messages that expect a reply of type R.

    @dataclass(frozen=True, slots=True)
    class Increment(Call[int]):
        by: int = 1

    count = await ref.call(Increment(2))     # a type checker infers int
    """

    __slots__ = ()


class From(Generic[R]):
    """A waiting caller. `handle_call` gets it as `sender` and can pass it to `reply` later."""

    __slots__ = ("deadline", "future", "message", "timeout")

    def __init__(self, future: asyncio.Future[R], message: Any, timeout: float | None, deadline: float) -> None:
        self.future = future
        self.message = message
        self.timeout = timeout
        self.deadline = deadline

    def discard(self) -> None:
        """Mark an error as seen after the caller was cancelled, so that asyncio does not log it."""
        if self.future.done() and not self.future.cancelled():
            self.future.exception()


def reply(sender: From[R], value: R) -> None:
    """Answer a call for which `handle_call` returned `NoReply`.

    The reply is dropped if the caller has timed out or was cancelled.
    """
    if not sender.future.done():
        sender.future.set_result(value)


class Callers:
    """The callers that wait for one process.

    One timer, set to the nearest deadline, serves all of them. A timer for each call would cost more than the rest of
    the call, and almost every call is answered long before its deadline.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callee: str) -> None:
        self._loop = loop
        self._callee = callee
        self._waiting: dict[From[Any], None] = {}  # In call order.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def add(self, message: Any, timeout: float | None) -> From[Any]:
        """Add a caller that waits up to `timeout` seconds, or without a limit if it is None.

        Raises:
            BadTimeoutError: `timeout` is not a number of seconds.
        """
        check_timeout(timeout)
        deadline = math.inf if timeout is None else self._loop.time() + timeout
        sender: From[Any] = From(self._loop.create_future(), message, timeout, deadline)
        self._waiting[sender] = None
        if deadline < self._timer_at:
            self._set_timer(deadline)
        return sender

    def remove(self, sender: From[Any]) -> None:
        self._waiting.pop(sender, None)

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Raise a new `error()` in each waiting caller. Call this once, when the process ends."""
        self._set_timer(math.inf)
        for sender in self._waiting:
            if not sender.future.done():
                sender.future.set_exception(error())
        self._waiting.clear()

    def expire(self, sender: From[Any]) -> None:
        """Raise CallTimeoutError in one caller, unless it has been answered."""
        if not sender.future.done():
            message = reprlib.repr(sender.message)
            error = CallTimeoutError(f"no reply from {self._callee} to {message} within {sender.timeout} s")
            sender.future.set_exception(error)

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = None if math.isinf(deadline) else self._loop.call_at(deadline, self._expire_due)

    def _expire_due(self) -> None:
        for sender in self._waiting:
            if sender.deadline <= self._timer_at:
                self.expire(sender)
        self._set_timer(min((s.deadline for s in self._waiting if not s.future.done()), default=math.inf))


def is_duration(value: object) -> bool:
    """Return whether `value` is a number of at least 0. `math.inf` is."""
    return isinstance(value, (float, int)) and value >= 0 and not isinstance(value, bool)


def check_timeout(timeout: object) -> None:
    """Raise BadTimeoutError unless `timeout` is None or a number of seconds of at least 0."""
    if timeout is not None and not is_duration(timeout):
        raise BadTimeoutError(f"timeout={timeout!r} must be None or a number of seconds of at least 0")
