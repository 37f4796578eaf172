"""Who waits for a process's replies, and for how long."""

from __future__ import annotations

import asyncio
import math
import reprlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from simba_actors.actors.durations import check_timeout
from simba_actors.actors.errors import CallTimeoutError

R = TypeVar("R")


class From(Generic[R]):
    """Who waits for a reply: what `handle_call` gets as `sender`."""

    __slots__ = ("deadline", "future", "message", "timeout")

    def __init__(self, future: asyncio.Future[R], message: Any, timeout: float | None, deadline: float) -> None:
        self.future = future
        self.message = message
        self.timeout = timeout
        self.deadline = deadline

    def forget(self) -> None:
        """Drops the answer: the caller was cancelled, and an error that came meanwhile is nothing to complain of."""
        if self.future.done() and not self.future.cancelled():
            self.future.exception()


def reply(sender: From[R], value: R) -> None:
    """Answers a call that `handle_call` left open with `NoReply`. An answer nobody waits for any more is dropped."""
    if not sender.future.done():
        sender.future.set_result(value)


class Callers:
    """The callers that wait for one process. A single timer, set to the nearest deadline, serves them all.

    A timer of its own for each call would cost more than the rest of the call: almost all are answered long before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callee: str) -> None:
        self._loop = loop
        self._callee = callee
        self._waiting: dict[From[Any], None] = {}  # In order of their calls.
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = math.inf

    def add(self, message: Any, timeout: float | None) -> From[Any]:
        """A new caller.

        Raises:
            BadTimeoutError: `timeout` is no duration.
        """
        check_timeout(timeout)
        deadline = math.inf if timeout is None else self._loop.time() + timeout
        sender: From[Any] = From(self._loop.create_future(), message, timeout, deadline)
        self._waiting[sender] = None
        if deadline < self._alarm:
            self._set_alarm(deadline)
        return sender

    def remove(self, sender: From[Any]) -> None:
        self._waiting.pop(sender, None)

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Gives everyone who waits an error of their own. Nobody may be added any more."""
        self._set_alarm(math.inf)
        for sender in self._waiting:
            if not sender.future.done():
                sender.future.set_exception(error())
        self._waiting.clear()

    def _set_alarm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._alarm = deadline
        self._timer = None if math.isinf(deadline) else self._loop.call_at(deadline, self._ring)

    def expire(self, sender: From[Any]) -> None:
        """Ends the wait of one caller with a CallTimeoutError, unless it is over."""
        if not sender.future.done():
            message = reprlib.repr(sender.message)
            error = CallTimeoutError(f"no reply from {self._callee} to {message} within {sender.timeout} s")
            sender.future.set_exception(error)

    def _ring(self) -> None:
        for sender in self._waiting:
            if sender.deadline <= self._alarm:
                self.expire(sender)
        self._set_alarm(min((s.deadline for s in self._waiting if not s.future.done()), default=math.inf))
