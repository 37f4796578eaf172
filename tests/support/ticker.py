"""Whether the event loop keeps running while something blocks."""

from __future__ import annotations

import asyncio
import threading

from tests.support.waiting import PATIENCE

TICKS = 3
"""Iterations that the loop must make while something blocks."""


class Ticker:
    """Counts iterations of the event loop, and lets threads wait for more of them."""

    def __init__(self) -> None:
        self._ticks = 0
        self._ticked = threading.Condition()
        self.was_held_up = False

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            with self._ticked:
                self._ticks += 1
                self._ticked.notify_all()

    def blocks_until_the_loop_has_ticked(self) -> None:
        with self._ticked:
            goal = self._ticks + TICKS
            if not self._ticked.wait_for(lambda: self._ticks >= goal, PATIENCE):
                self.was_held_up = True
