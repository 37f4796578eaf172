"""What channels serve, read from the store on behalf of all live programs that follow it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import orjson

from simba_actors.live.follower import Snapshot
from simba_actors.live.wire import etag_of, snapshot_to_json
from simba_actors.programs import Configuration
from simba_actors.publishing import publications
from simba_actors.store import Reader

WATCH_SECONDS = 5.0
"""Seconds after which a watch ends, and the follower starts another. A server that shuts down waits for it."""

POLL_SECONDS = 0.1
"""Seconds between checks of the store on behalf of all watches."""


class Published(NamedTuple):
    """What a channel serves, as it is sent to each follower."""

    version: int
    etag: str
    body: bytes


class Watcher:
    """Reads the store on behalf of all followers, through one connection that is open while it is used.

    One of the watches checks for commits and the others wait for it, so many watches cost hardly more than one.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._users = 0
        self._reader: Reader | None = None
        self._version = -1
        self._polled_at = 0.0
        self._polling: anyio.Lock
        self._published: dict[str, Published] = {}
        self._is_polled = False
        self._poller_left: anyio.Event

    async def published(self, channel: str) -> Published:
        """Return what the channel serves, read once for all callers until the next commit."""
        async with self._in_use():
            reader = await self._poll()
            if channel not in self._published:
                self._published[channel] = await reader.ask(_published, channel)
            return self._published[channel]

    async def changed(self, channel: str, known: str) -> Published | None:
        """Wait until the channel's `etag_of` is not `known` any more. Return None after `WATCH_SECONDS`."""
        with anyio.move_on_after(WATCH_SECONDS):
            async with self._in_use():
                while True:
                    version = self._version
                    published = await self.published(channel)
                    if published.etag != known:
                        return published
                    await self._commit_after(version)
        return None

    async def _commit_after(self, version: int) -> None:
        """Return when the store may have changed since that version of it."""
        if self._is_polled:
            if version == self._version:
                await self._poller_left.wait()
            return
        self._is_polled = True
        try:
            while version == self._version:
                await anyio.sleep(POLL_SECONDS)
                await self._poll()
        finally:
            self._is_polled = False
            left, self._poller_left = self._poller_left, anyio.Event()
            left.set()

    async def _poll(self) -> Reader:
        """Check for commits, at most once in `POLL_SECONDS`, and return the reader."""
        async with self._polling:
            now = time.monotonic()
            if self._reader is None:
                self._reader, self._polled_at, self._version = await Reader.open(self._store), 0.0, -1
            if now - self._polled_at >= POLL_SECONDS:
                version = await self._reader.data_version()
                if version != self._version:
                    self._published = {}
                self._polled_at, self._version = now, version
            return self._reader

    @asynccontextmanager
    async def _in_use(self) -> AsyncGenerator[None]:
        if self._users == 0:  # Perhaps on another event loop than before.
            self._polling, self._poller_left = anyio.Lock(), anyio.Event()
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                reader, self._reader = self._reader, None
                if reader is not None:
                    with anyio.CancelScope(shield=True):
                        await reader.close()


def _published(db: sqlite3.Connection, channel: str) -> Published:
    served = publications.served(db, channel)
    configurations = {
        publication.version: Configuration.from_json(publications.configuration_of(db, publication))
        for publication in served.publications
    }
    body = orjson.dumps(snapshot_to_json(Snapshot(served, configurations)))
    return Published(served.version, etag_of(served), body)
