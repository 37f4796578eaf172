"""Whether a run may start new LM work: its status, trouble with its store, and the gate that depends on both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from simba_actors.errors import SimbaError


@dataclass(slots=True)
class Life:
    """What the run has done already in this process, so that a restarted actor does not repeat it."""

    claimed: bool = False
    """Whether the run was claimed in the store."""
    announced: bool = False
    """Whether the event that the run is up was stored."""


class Pausing:
    """Whether the run is paused, and why.

    Pauses are numbered by epochs: a failure that belongs to an epoch before the last resume is old news.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.reason: str | None = None
        """Why the run is paused; None while it is not."""
        self.epoch = 0
        """How often the run has been resumed."""

    def pause(self, reason: str) -> None:
        """Start no more LM work. The first reason counts until the run is resumed."""
        self.reason = self.reason or reason
        self._changed()

    def resume(self) -> None:
        """Allow LM work again."""
        self.reason = None
        self.epoch += 1
        self._changed()


class StoreTrouble:
    """Why results cannot be stored at the moment. No LM work starts meanwhile, since it could be lost."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.reason: str | None = None
        """What is wrong with the file; None while it can be written."""

    def set(self, reason: str | None) -> None:
        """Note a failed commit, or with None that commits work again."""
        self.reason = reason
        self._changed()


class Failure:
    """The error that ends the run for this process."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.error: SimbaError | None = None
        """The first error that was set."""

    def set(self, error: SimbaError) -> None:
        """Start no LM work any more."""
        self.error = self.error or error
        self._changed()


class Gate:
    """Open while new LM work may start: no pause, no trouble with the store, no failure."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.pausing = Pausing(self._update)
        self.store_trouble = StoreTrouble(self._update)
        self.failure = Failure(self._update)

    @property
    def is_open(self) -> bool:
        """Whether work may start now."""
        return self._open.is_set()

    async def passed(self) -> None:
        """Wait until the gate is open."""
        await self._open.wait()

    def _update(self) -> None:
        if any(why is not None for why in (self.pausing.reason, self.store_trouble.reason, self.failure.error)):
            self._open.clear()
        else:
            self._open.set()
