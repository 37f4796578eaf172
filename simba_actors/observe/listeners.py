"""Listeners of a run: processes of their own, which can neither slow the run down nor harm it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio

from simba_actors.actors import SHUTDOWN, Ref, spawn
from simba_actors.events import Event, EventCallback
from simba_actors.runtime.exception_isolation import isolated

logger = logging.getLogger(__name__)

FAREWELL_SECONDS = 0.5
"""How long listeners have to take in the last events when a run is stopped, and then to put away what they hold."""


class Listeners:
    """Those of one run. They end by themselves when there are no more events."""

    def __init__(self) -> None:
        self._refs: list[Ref] = []

    def add(self, listen: Callable[..., Awaitable[None]], *args: Any, name: str) -> None:
        """Runs `listen(*args)` beside the run. What it raises is logged, and is its own end only."""
        self._refs.append(spawn(listen, *args, name=name))

    async def stop(self) -> None:
        """Lets them hear the end, and ends those that take too long over it."""
        await self._ended()
        for ref in self._refs:
            ref.exit(SHUTDOWN)
        await self._ended()
        for ref in self._refs:
            ref.kill()
        self._refs.clear()

    async def _ended(self) -> None:
        with anyio.move_on_after(FAREWELL_SECONDS):
            for ref in self._refs:
                await ref.wait()


async def _call(callback: EventCallback, event: Event) -> None:
    answer = callback(event)
    if inspect.isawaitable(answer):
        await answer


async def call_back(callback: EventCallback, events: AsyncGenerator[Event]) -> None:
    """Call `callback` with each of `events`, one at a time. One that raises, even SystemExit, is logged and dropped."""
    async with aclosing(events):
        async for event in events:
            try:
                await isolated(_call(callback, event))
            except Exception:
                name = getattr(callback, "__qualname__", repr(callback))
                logger.exception("%s raised when it heard of %r, and is not called any more", name, event)
                return
