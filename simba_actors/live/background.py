"""Work that requests leave to background threads, and warnings that are logged once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import dspy
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

from simba_actors.runtime.event_loop import running_loop_or_none
from simba_actors.runtime.forks import survive_forks
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads

logger = get_logger(__name__)

R = TypeVar("R")
T = TypeVar("T")

threads = Threads()
"""Shared by all live programs of the process, so that one for each request leaves no thread behind."""

THREADS = 40
"""Maximum number of calls of sync students that run at the same time on one event loop, as for anyio's worker threads.
DSPy's setting `async_max_workers` can raise it. Further calls wait for their turn."""

_student_limiter: RunVar[CapacityLimiter] = RunVar("limiter of the sync students of live programs")
_reading_limiter: RunVar[CapacityLimiter] = RunVar("limiter of the reads of live programs")

QUEUE_SIZE = 10_000
"""Number of items that may wait. Later ones are dropped."""

BATCH_SIZE = 500
"""Maximum number of queued items handled at once, so that their scores share a transaction."""


class BackgroundQueue(Generic[T]):
    """Passes items to `handle`, in batches and in order, in a thread that exists only while there are items.

    Args:
        threads: Where the thread comes from. If it can't be started, items wait for the next `put` or for
            `wait_until_empty`.
        handle: Called with up to `BATCH_SIZE` items. Must not raise.
    """

    def __init__(self, threads: Threads, handle: Callable[[Sequence[T]], None]) -> None:
        self._threads = threads
        self._handle = handle
        self._warn_once = WarnOnce(logger)
        self._reset()
        survive_forks(self)

    def put(self, item: T) -> bool:
        """Add an item. Never waits. Return False if the queue is full and the item was dropped."""
        with self._changed:
            if len(self._items) >= QUEUE_SIZE:
                return False
            self._items.append(item)
        self._start_if_needed()
        return True

    def wait_until_empty(self, deadline: float) -> bool:
        """Wait until all items are handled. Return False if one `failed` meanwhile, or at `deadline`."""
        self._start_if_needed()
        with self._changed:
            failures = self._failures
            self._changed.wait_for(
                lambda: not self._running or self._failures != failures, max(0.0, deadline - time.monotonic())
            )
            return not self._running and not self._items

    def failed(self, retry_seconds: float) -> None:
        """Report, from within `handle`, that the items can't be handled now. Wait until it is time to try again."""
        with self._changed:
            self._failures += 1
            self._changed.notify_all()
        time.sleep(retry_seconds)

    def before_fork(self) -> None:
        """Do nothing: there is nothing to close."""

    def after_fork_in_parent(self) -> None:
        """Do nothing: nothing was closed."""

    def after_fork_in_child(self) -> None:
        """Start empty: the parent has the items and the thread that handles them."""
        self._reset()

    def _reset(self) -> None:
        self._items: deque[T] = deque()
        self._running = False
        self._failures = 0
        self._changed = threading.Condition()

    def _start_if_needed(self) -> None:
        with self._changed:
            if self._running or not self._items:
                return
            self._running = True
        try:
            self._threads.start(self._run)
        except RuntimeError as error:
            self._running = False
            self._warn_once(f"calls wait to be recorded, since the process can't start a thread for that: {error}")

    def _run(self) -> None:
        while batch := self._next_batch():
            self._handle(batch)

    def _next_batch(self) -> list[T]:
        with self._changed:
            batch = [self._items.popleft() for _ in range(min(len(self._items), BATCH_SIZE))]
            if not batch:
                self._running = False
                self._changed.notify_all()
            return batch


class LiveThreads:
    """Runs the blocking calls of one channel in threads, a bounded number at a time."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._warn_once = WarnOnce(logger)

    async def run(self, call: Callable[[], R]) -> R:
        """Run a student's `call()` in a thread and return its result.

        A call that is cancelled occupies its thread until it returns, and counts for as long. If the process can't
        start a thread, block the event loop.
        """
        return await self._run(call, _limiter_in(_student_limiter))

    async def read(self, call: Callable[[], R]) -> R:
        """Do the same with a short `call()` that reads the store. It never waits for running students."""
        return await self._run(call, _limiter_in(_reading_limiter))

    async def _run(self, call: Callable[[], R], limiter: CapacityLimiter) -> R:
        borrower = object()
        await limiter.acquire_on_behalf_of(borrower)
        try:
            answer = threads.submit(call)
        except RuntimeError as error:
            try:
                self._warn(error)
                return call()
            finally:
                limiter.release_on_behalf_of(borrower)
        answer.add_done_callback(partial(_release, limiter, borrower))
        return await asyncio.shield(answer)

    def _warn(self, error: RuntimeError) -> None:
        if running_loop_or_none() is None:
            why = "it is not asyncio's: run the service on asyncio"
        else:
            why = f"the process can't start threads for them ({error}): raise its limit"
        self._warn_once(f"calls of channel {self._channel!r} block the event loop, since {why}")


def _release(limiter: CapacityLimiter, borrower: object, answer: asyncio.Future[Any]) -> None:
    limiter.release_on_behalf_of(borrower)
    if not answer.cancelled():
        answer.exception()  # Nobody else retrieves the error of a cancelled call.


def _limiter_in(variable: RunVar[CapacityLimiter]) -> CapacityLimiter:
    """Return the limiter of the running event loop."""
    settings: Any = dspy.settings
    most = max(THREADS, settings.async_max_workers)
    try:
        limiter = variable.get()
    except LookupError:
        limiter = CapacityLimiter(most)
        variable.set(limiter)
    limiter.total_tokens = most
    return limiter


class WarnOnce:
    """Logs a warning unless it is the same as the last one."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._last: str | None = None

    def __call__(self, message: str) -> None:
        if message != self._last:
            self._last = message
            self._logger.warning("%s", message)

    def forget(self) -> None:
        """Log the next warning even if it is the same, because the trouble has ended meanwhile."""
        self._last = None
