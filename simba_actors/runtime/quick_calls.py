"""Many short calls to one trip into a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, TypeVar

from simba_actors.runtime.exception_isolation import raised_in_thread
from simba_actors.runtime.fair_scheduler import FairScheduler
from simba_actors.runtime.threads import Threads

R = TypeVar("R")

SPREAD_SECONDS = 0.05
"""How long calls wait for the one before them. Waking a thread costs about 0.1 ms, so quick ones share one."""

ENOUGH, GATHER_SECONDS = 4, 0.005
"""How many calls a trip waits for before it sets out, and how long, while other rollouts are about to bring more."""


class QuickCalls:
    """Runs blocking calls that are quick as a rule, such as metrics, with the caller's context.

        score = await quick_calls.run(lambda: metric(example, prediction))

    They run one after another in one thread: those that arrive in one turn of the event loop or, while rollouts take
    turns at it, within a few, and those that arrive before that thread had its turn of the interpreter. Where one of
    them takes longer than `SPREAD_SECONDS`, the others get threads of their own.
    """

    def __init__(self, threads: Threads, scheduler: FairScheduler | None = None) -> None:
        self._threads = threads
        self._scheduler = scheduler or FairScheduler()
        self._trip: _Trip | None = None

    async def run(self, call: Callable[[], R]) -> R:
        """What `call()` gives or raises."""
        loop = asyncio.get_running_loop()
        arrived = _Call(call, copy_context(), loop.create_future())
        if self._trip is None or not self._trip.takes_more:
            self._trip = _Trip(self._threads, self._scheduler, loop)
        self._trip.add(arrived)
        return await arrived.answer


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


class _Trip:
    """Calls on their way through one thread. Both deques are taken from by one popleft, so neither needs a lock."""

    def __init__(self, threads: Threads, scheduler: FairScheduler, loop: asyncio.AbstractEventLoop) -> None:
        self._ahead: deque[_Call] = deque()
        self._ended: deque[_Call] = deque()
        self._threads = threads
        self._scheduler = scheduler
        self._loop = loop
        self._sets_out_by = loop.time() + GATHER_SECONDS
        self._until = loop.time() + SPREAD_SECONDS
        self._taken_on = 0
        self._is_over = False
        loop.call_soon(self._set_out)

    @property
    def takes_more(self) -> bool:
        return not self._is_over and self._loop.time() < self._until

    def add(self, call: _Call) -> None:
        self._ahead.append(call)
        self._taken_on += 1
        if self._taken_on == 2:
            self._loop.call_at(self._until, self._spread)

    def _set_out(self) -> None:
        """On the event loop, as all that follows up to `_work`."""
        more_may_come = self._scheduler.is_taken and self._loop.time() < self._sets_out_by
        if more_may_come and self._taken_on < ENOUGH:
            self._loop.call_soon(self._set_out)
        else:
            self._go_on()

    def _go_on(self) -> None:
        self._deliver()
        self._is_over = not self._ahead
        if not self._is_over:
            self._threads.start(self._work)

    def _spread(self) -> None:
        """If some call still holds up others: tells of those that have ended, and gives the rest a thread each."""
        self._deliver()
        for _ in range(len(self._ahead)):
            self._threads.start(self._work_on_one)

    def _deliver(self) -> None:
        while self._ended:
            self._ended.popleft().deliver()

    def _work(self) -> None:
        for _ in range(len(self._ahead)):
            self._run_next()
        self._tell(self._go_on)

    def _work_on_one(self) -> None:
        self._run_next()
        self._tell(self._deliver)

    def _run_next(self) -> None:
        try:
            call = self._ahead.popleft()
        except IndexError:
            return  # Another thread of this trip has taken it.
        call.run()
        self._ended.append(call)

    def _tell(self, then: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(then)
