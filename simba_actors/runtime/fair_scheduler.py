"""Rollouts go on one at a time, so that the host's event loop turns in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class FairScheduler:
    """Lets one pass in each turn of the event loop, those that are under way first.

    Without it, as many rollouts as have replies at one moment hold up everything else on the loop, each with what it
    does next, a prompt to write or a reply to read: hundreds of milliseconds for hundreds of rollouts. Those that begin
    come later, so that where the loop can serve no more, no more are under way either, each with its memory to look
    through for garbage. What waits for a group of rollouts waits for the last of them, which those that came later must
    not hold up. What nothing waits for yet comes last.
    """

    def __init__(self) -> None:
        self._going_on: deque[asyncio.Future[None]] = deque()
        self._beginning: deque[asyncio.Future[None]] = deque()
        self._ahead: deque[asyncio.Future[None]] = deque()
        self._turning = False

    @property
    def is_taken(self) -> bool:
        """Whether somebody waits for a turn, or had the last one."""
        return self._turning

    async def go_on(self) -> None:
        """Returns when it is the turn of a caller that is amid something."""
        await self._wait_in(self._going_on)

    async def begin(self) -> None:
        """Returns when it is the turn of a caller that begins something."""
        await self._wait_in(self._beginning)

    async def go_ahead(self) -> None:
        """Returns when it is the turn of a caller that begins, or is amid, what is ahead of its time."""
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
    """Drives a coroutine as `await` does, with a wait for its `turn` after each of the coroutine's own.

        answer = await YieldingDriver(lm.acall(messages=messages), share.go_on)

    It is cancelled without waiting.
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
            except BaseException as error:  # noqa: BLE001 - a cancellation is the coroutine's to see
                step = partial(self._work.throw, error)
            else:
                step = partial(self._work.send, None)
