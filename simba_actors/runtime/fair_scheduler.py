"""A scheduler that lets rollouts take turns, so that the host's event loop can run other work in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class FairScheduler:
    """Admits one coroutine per iteration of the event loop: resumed ones first, then new ones, then speculative ones.

        await scheduler.begin()

    When the replies to hundreds of rollouts arrive together, each rollout has a prompt to write or a reply to read, and
    without turns they would block the loop for hundreds of milliseconds. New rollouts come after resumed ones, so that
    a busy loop does not collect more of them than it can serve, and later rollouts do not delay earlier ones.

    Pays: the loop's delay at the 99th percentile is a sixth of what it is without (tests/benchmarks/README.md).
    """

    def __init__(self) -> None:
        self._going_on: deque[asyncio.Future[None]] = deque()
        self._beginning: deque[asyncio.Future[None]] = deque()
        self._ahead: deque[asyncio.Future[None]] = deque()
        self._turning = False

    async def go_on(self) -> None:
        """Wait for a turn, as a rollout that has begun."""
        await self._wait_in(self._going_on)

    async def begin(self) -> None:
        """Wait for a turn, as a rollout that has not begun."""
        await self._wait_in(self._beginning)

    async def go_ahead(self) -> None:
        """Wait for a turn, as a rollout that runs ahead: nothing waits for it yet."""
        await self._wait_in(self._ahead)

    async def _wait_in(self, line: deque[asyncio.Future[None]]) -> None:
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn, loop)
            return
        place: asyncio.Future[None] = loop.create_future()
        line.append(place)
        await place

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        while line := self._going_on or self._beginning or self._ahead:
            place = line.popleft()
            if not place.done():
                place.set_result(None)
                loop.call_soon(self._turn, loop)
                return
        self._turning = False


class YieldingDriver(Generic[R]):
    """Drives a coroutine as `await` does, and waits for a `turn` each time before it resumes the coroutine.

        answer = await YieldingDriver(lm.acall(messages=messages), scheduler.go_on)

    A cancellation does not wait for a turn.

    Pays: without it the loop's delay at the 99th percentile doubles (tests/benchmarks/README.md).
    """

    def __init__(self, work: Coroutine[Any, Any, R], turn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._turn = turn

    def __await__(self) -> Generator[Any, Any, R]:
        step = partial(self._work.send, None)
        while True:
            try:
                awaited = step()
            except StopIteration as ended:
                return ended.value
            try:
                yield awaited
                yield from self._turn().__await__()
            except BaseException as error:  # noqa: BLE001 - the coroutine must see a cancellation
                step = partial(self._work.throw, error)
            else:
                step = partial(self._work.send, None)
