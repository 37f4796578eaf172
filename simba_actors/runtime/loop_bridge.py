"""A bridge by which threads run coroutines on an event loop, even if their caller may be blocking the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, TypeVar

R = TypeVar("R")


class LoopBlockedError(Exception):
    """The event loop is blocked. The coroutine has not begun, and will not."""


class LoopEndedError(Exception):
    """The event loop has ended before the coroutine was done."""


class LoopBridge:
    """Runs coroutines of threads on an event loop.

        slot = bridge.run(loop, lambda: endpoint.enter(sleep), timeout=1.0)

    `dspy.Parallel` in an async student blocks the loop until its threads are done. If these waited for the loop, both
    would wait forever. So a thread takes back a coroutine that the loop does not begin within `timeout` seconds, and no
    thread waits for the loop until it runs again. anyio's `from_thread.run` has no such timeout.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocked = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, R]], timeout: float) -> R:
        """Return what `work()` returns, run on `loop` while this thread waits.

        Raises:
            LoopBlockedError: The loop is blocked.
            LoopEndedError: The loop is closed, or was closed before the work was done.
        """
        if self._blocked and not loop.is_closed():
            raise LoopBlockedError
        answer: Future[R] = Future()
        try:
            loop.call_soon_threadsafe(self._begin, loop, work, answer)
        except RuntimeError as error:
            raise LoopEndedError from error
        while not wait([answer], timeout).done:
            if loop.is_closed():
                raise LoopEndedError
            # A loop that is not running waits for no thread.
            if loop.is_running() and self._take_back(answer):
                raise LoopBlockedError
        try:
            return answer.result()
        finally:
            del answer  # It holds the error, whose traceback holds this frame.

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
        """Cancel the work unless the loop has begun it. Return whether it was cancelled."""
        with self._lock:
            taken = answer.cancel()
            self._blocked = self._blocked or taken
        return taken
