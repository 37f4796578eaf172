"""Many short calls to one trip into a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, TypeVar

from simba_actors.rollouts.strays import raised_in_thread
from simba_actors.rollouts.threads import Threads

R = TypeVar("R")

SPREAD_SECONDS = 0.05
"""How long calls wait for the one before them. Waking a thread costs about 0.1 ms, so quick ones share one."""


class QuickCalls:
    """Runs blocking calls that are quick as a rule, such as metrics, with the caller's context.

        score = await quick_calls.run(lambda: metric(example, prediction))

    Those that arrive in one turn of the event loop run one after another in one thread. Where one of them takes longer
    than `SPREAD_SECONDS`, the others get threads of their own.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._arrived: list[_Call] = []

    async def run(self, call: Callable[[], R]) -> R:
        """What `call()` gives or raises."""
        loop = asyncio.get_running_loop()
        arrived = _Call(call, copy_context(), loop.create_future())
        self._arrived.append(arrived)
        if len(self._arrived) == 1:
            loop.call_soon(self._send, loop)
        return await arrived.answer

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = _Batch(self._arrived, self._threads, loop)
        self._arrived = []
        batch.start()


class _Call:
    __slots__ = ("answer", "call", "context", "error", "value")

    def __init__(self, call: Callable[[], Any], context: Context, answer: asyncio.Future[Any]) -> None:
        self.call = call
        self.context = context
        self.answer = answer
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.value = self.context.run(self.call)
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            self.error = raised_in_thread(error)

    def deliver(self) -> None:
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.value)


class _Batch:
    """Calls on their way through one thread. Both deques are taken from by one popleft, so neither needs a lock."""

    def __init__(self, calls: list[_Call], threads: Threads, loop: asyncio.AbstractEventLoop) -> None:
        self._ahead = deque(calls)
        self._ended: deque[_Call] = deque()
        self._threads = threads
        self._loop = loop

    def start(self) -> None:
        self._threads.start(self._work)
        if len(self._ahead) > 1:
            self._loop.call_later(SPREAD_SECONDS, self._spread)

    def _spread(self) -> None:
        """If some call still holds up others: tells of those that have ended, and gives the rest a thread each."""
        self._deliver()
        for _ in range(len(self._ahead)):
            self._threads.start(self._work_on_one)

    def _work(self) -> None:
        while self._run_next():
            pass
        self._tell()

    def _work_on_one(self) -> None:
        if self._run_next():
            self._tell()

    def _run_next(self) -> bool:
        try:
            call = self._ahead.popleft()
        except IndexError:
            return False
        call.run()
        self._ended.append(call)
        return True

    def _tell(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        while self._ended:
            self._ended.popleft().deliver()
