"""Work that threads have done on an event loop, and that they do without where the loop is blocked by them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

R = TypeVar("R")


class LoopBlockedError(Exception):
    """The event loop has not turned: what it was to do has not begun, and will not."""


class LoopEndedError(Exception):
    """The event loop has ended: what it was to do is not done."""


class LoopBridge:
    """Runs coroutines of threads on an event loop.

        slot = bridge.run(loop, lambda: endpoint.enter(priority, sleep), patience=1.0)

    `dspy.Parallel` in an async student blocks the loop until its threads are done. Were they to wait for the loop,
    both would wait for ever. So a thread takes back what the loop does not begin in `patience` seconds, and after that
    the loop is not waited for until it has turned.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocked = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, R]], patience: float) -> R:
        """What `work()` gives or raises, run on `loop` while this thread waits.

        Raises:
            LoopBlockedError: The loop does not turn.
            LoopEndedError: The loop is closed, or was told to end before the work was done.
        """
        if loop.is_closed():
            raise LoopEndedError
        if self._blocked:
            raise LoopBlockedError
        answer: Future[R] = Future()
        loop.call_soon_threadsafe(self._begin, loop, work, answer)
        while not wait([answer], patience).done and not answer.running():
            if loop.is_closed():
                raise LoopEndedError
            # A loop that stands still between two runs blocks nobody.
            if loop.is_running() and self._take_back(answer):
                raise LoopBlockedError
        try:
            return answer.result()
        finally:
            del answer  # It holds the error, whose traceback would hold it.

    def _begin(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, R]], answer: Future[R]
    ) -> None:
        with self._lock:
            self._blocked = False
            wanted = answer.set_running_or_notify_cancel()
        if wanted:
            task = loop.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(partial(self._answer, answer))

    def _answer(self, answer: Future[R], task: asyncio.Task[R]) -> None:
        self._tasks.discard(task)
        error = LoopEndedError() if task.cancelled() else task.exception()
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(task.result())

    def _take_back(self, answer: Future[Any]) -> bool:
        """Whether the loop has not begun, and now will not."""
        with self._lock:
            taken = answer.cancel()
            self._blocked = self._blocked or taken
        return taken
