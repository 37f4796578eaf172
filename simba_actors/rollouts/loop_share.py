"""Rollouts that are ready at the same moment go on a few at a time, so that the host's event loop turns in between."""

from __future__ import annotations

import asyncio
from collections import deque

MOST_A_TURN = 2
"""A rollout keeps the loop for about a millisecond at a stretch: DSPy writes a prompt or reads a reply."""


class LoopShare:
    """Lets `MOST_A_TURN` pass in each turn of the event loop, in the order in which they came.

    Without it, as many rollouts as have replies at one moment hold up everything else on the loop, each with what it
    does next: hundreds of milliseconds for hundreds of rollouts. Those that begin come last, so that where the loop can
    serve no more, no more are under way either, each with its memory to look through for garbage.
    """

    def __init__(self) -> None:
        self._going_on: deque[asyncio.Future[None]] = deque()
        self._beginning: deque[asyncio.Future[None]] = deque()
        self._passed = 0
        self._turning = False

    async def begin(self) -> None:
        """Returns when it is the turn of a caller that begins something."""
        await self._wait_in(self._beginning)

    async def go_on(self) -> None:
        """Returns when it is the turn of a caller that is amid something."""
        await self._wait_in(self._going_on)

    async def _wait_in(self, line: deque[asyncio.Future[None]]) -> None:
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn, loop)
        if self._passed < MOST_A_TURN and not (self._going_on or self._beginning):
            self._passed += 1
            return
        place: asyncio.Future[None] = loop.create_future()
        line.append(place)
        await place

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._passed = 0
        while self._passed < MOST_A_TURN and (line := self._going_on or self._beginning):
            place = line.popleft()
            if not place.done():
                place.set_result(None)
                self._passed += 1
        self._turning = self._passed > 0
        if self._turning:
            loop.call_soon(self._turn, loop)
