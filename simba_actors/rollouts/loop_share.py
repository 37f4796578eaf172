"""Rollouts that are ready at the same moment go on a few at a time, so that the host's event loop turns in between."""

from __future__ import annotations

import asyncio
from collections import deque

MOST_A_TURN = 3
"""A rollout keeps the loop for about half a millisecond at a stretch: DSPy writes a prompt or reads a reply."""


class LoopShare:
    """Lets `MOST_A_TURN` pass in each turn of the event loop, in the order in which they came.

    Without it, as many rollouts as have replies at one moment hold up everything else on the loop, each with what it
    does next: hundreds of milliseconds for hundreds of rollouts.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._passed = 0
        self._turning = False

    async def turn(self) -> None:
        """Returns when it is the caller's turn."""
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn, loop)
        if self._passed < MOST_A_TURN and not self._waiting:
            self._passed += 1
            return
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append(place)
        await place

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turning = self._passed > 0 or bool(self._waiting)
        self._passed = 0
        while self._waiting and self._passed < MOST_A_TURN:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                self._passed += 1
        if self._turning:
            loop.call_soon(self._turn, loop)
