"""Following a run's events: those stored so far, then new ones as they are committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from simba_actors.events import Event
from simba_actors.store import Reader


class EventFeed:
    """Wakes followers when events are stored. They read at their own pace, so a slow one holds up nobody."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._over = False

    def heard(self, events: Sequence[Event]) -> None:
        """There are new events in the store."""
        if events:
            self._wake()

    def close(self) -> None:
        """There will be no more."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, store: Path, run_id: str, after: int = 0) -> AsyncIterator[Event]:
        """The run's events with a seq above `after`, until the feed is closed and all have been given."""
        async with await Reader.open(store) as reader:
            while True:
                news, over = self._news, self._over
                events = await reader.events(run_id, after)
                for event in events:
                    yield event
                    after = event.seq
                if events:
                    continue
                if over:
                    return
                await news.wait()
