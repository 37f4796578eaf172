"""Following a run's events: those stored so far, then new ones as they are committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import anyio

from simba_actors.events import Event
from simba_actors.publishing.channel_queries import Channels
from simba_actors.publishing.publications import Publication
from simba_actors.store import Reader
from simba_actors.store.queries import Queries

LOOK_SECONDS = 0.2
"""How often a follower in another process asks the file whether there is anything new."""


async def follow_events(store: str | Path, run_id: str, after: int = 0) -> AsyncGenerator[Event]:
    """A run's events with a seq above `after`, from its store alone: for another process than the run's.

        async for event in follow_events("simba.db", "my-run"):
            print(event)

    Ends with the run. Raises UnknownRunError if the store has no such run.
    """
    async with await Queries.open(store) as reader:
        seen = -1
        while True:
            version = await reader.data_version()
            if version == seen:
                await anyio.sleep(LOOK_SECONDS)
                continue
            seen = version
            over = (await reader.run(run_id)).status in ("finished", "failed")
            while events := await reader.events(run_id, after):
                for event in events:
                    yield event
                    after = event.seq
            if over:
                return


async def follow_channel(store: str | Path, channel: str, after: int = 0) -> AsyncGenerator[Publication]:
    """A channel's versions above `after`, then new ones, each with who published it and why: verdicts on canaries, too.

        async for version in follow_channel("simba.db", "support-bot"):
            print(version.version, version.kind, version.reason)

    Never ends. The channel need not exist yet. Raises StoreError if the file is no store.
    """
    async with await Channels.open(store) as reader:
        seen = -1
        while True:
            version = await reader.data_version()
            if version == seen:
                await anyio.sleep(LOOK_SECONDS)
                continue
            seen = version
            for publication in await reader.history(channel) if channel in await reader.names() else []:
                if publication.version > after:
                    yield publication
                    after = publication.version


class EventFeed:
    """Wakes followers in the run's own process when events are stored.

    They read at their own pace, so a slow one holds up nobody.
    """

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._over = False
        self._first_seq: int | None = None

    def heard(self, events: Sequence[Event]) -> None:
        """There are new events in the store."""
        if events:
            self._first_seq = self._first_seq or events[0].seq
            self.wake()

    def close(self) -> None:
        """There will be no more."""
        self._over = True
        self.wake()

    def wake(self) -> None:
        """There may be new events in the store."""
        self._news.set()
        self._news = asyncio.Event()

    async def follow_new(self, store: Path, run_id: str) -> AsyncGenerator[Event]:
        """The run's events since it was started in this process."""
        while self._first_seq is None and not self._over:
            await self._news.wait()
        if self._first_seq is not None:
            async with aclosing(self.follow(store, run_id, self._first_seq - 1)) as events:
                async for event in events:
                    yield event

    async def follow(self, store: Path, run_id: str, after: int = 0) -> AsyncGenerator[Event]:
        """The run's events with a seq above `after`, until the feed is closed and all have been given."""
        async with await Reader.open(store) as reader:
            while True:
                news, over = self._news, self._over
                while events := await reader.events(run_id, after):
                    for event in events:
                        yield event
                        after = event.seq
                if over:
                    return
                await news.wait()
