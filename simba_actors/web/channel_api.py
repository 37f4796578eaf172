"""Channels for live programs on other hosts: Get, Watch and Report, as `simba_actors.live.remote` speaks them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from simba_actors.errors import ConfigError, SimbaError
from simba_actors.evaluation.scoring import is_score
from simba_actors.live.calls import CallId
from simba_actors.live.follower import Snapshot
from simba_actors.live.recording import Score, write_scores
from simba_actors.live.wire import etag_of, snapshot_to_json
from simba_actors.programs import Configuration
from simba_actors.publishing import publications
from simba_actors.store import Reader
from simba_actors.web.rendering import name_in, site
from simba_actors.web.stream import EventStream

WATCH_SECONDS = 5.0
"""Seconds after which a watch ends and is asked for again. A server that shuts down waits for it."""

LOOK_SECONDS = 0.1
"""Seconds between looks at the store on behalf of all watches."""

LARGEST_REPORT = 1024 * 1024
"""Bytes of a batch of scores. A larger one is refused."""


class Published(NamedTuple):
    """What a channel serves, as it is sent to each follower."""

    version: int
    etag: str
    body: bytes


async def get(request: Request) -> Response:
    """Return a snapshot of the channel, or 304 if the client has it already."""
    published = await _watcher(request).published(name_in(request, "channel"))
    headers = {"ETag": f'"{published.etag}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(published.body, headers=headers, media_type="application/json")


def _published(db: sqlite3.Connection, channel: str) -> Published:
    served = publications.served(db, channel)
    configurations = {
        publication.version: Configuration.from_json(publications.configuration_of(db, publication))
        for publication in served.publications
    }
    body = orjson.dumps(snapshot_to_json(Snapshot(served, configurations)))
    return Published(served.version, etag_of(served), body)


async def watch(request: Request) -> Response:
    """Send one server-sent event when the channel is not what the client knows any more."""
    return EventStream(_hints(request, name_in(request, "channel"), request.query_params.get("etag", "")))


async def report(request: Request) -> Response:
    """Store a batch of scores. A second score of the same call does not count."""
    channel = name_in(request, "channel")
    body = await request.body()
    if len(body) > LARGEST_REPORT:
        return _refused(f"a batch must have at most {LARGEST_REPORT:,} bytes", 413)
    try:
        entries: list[Any] = orjson.loads(body)["scores"]
        scores = [Score(channel, CallId.parse(entry["call"]), _score(entry["score"])) for entry in entries]
    except (ValueError, TypeError, LookupError) as error:
        return _refused(f'the body must be {{"scores": [{{"call": id, "score": number}}, …]}}: {error}', 422)
    await anyio.to_thread.run_sync(write_scores, site(request).store, scores)
    return JSONResponse({"scores": len(scores)})


def _score(value: Any) -> float:
    if not is_score(value):
        raise ConfigError(f"score={value!r:.80} is not a number between -1e18 and 1e18")
    return float(value)


def _refused(reason: str, status: int) -> Response:
    return JSONResponse({"error": reason}, status)


async def _hints(request: Request, channel: str, known: str) -> AsyncGenerator[str]:
    yield ": watching\n\n"
    # A store that can't be read ends the watch. Get says why.
    with suppress(SimbaError):
        published = await _watcher(request).changed(channel, known, WATCH_SECONDS)
        if published is not None:
            yield f"data: {published.version}\n\n"


class Watcher:
    """Reads the store on behalf of all followers, through one connection that is open while it is used.

    One of those who watch looks for commits; the others wait for that one, so that many cost no more than a few.
    """

    def __init__(self, request: Request) -> None:
        self._store = site(request).store
        self._users = 0
        self._reader: Reader | None = None
        self._version = -1
        self._looked = 0.0
        self._looking = anyio.Lock()
        self._published: dict[str, Published] = {}
        self._has_looker = False
        self._looker_left = anyio.Event()

    async def published(self, channel: str) -> Published:
        """Return what the channel serves, read once for all who ask before the next commit."""
        async with self._in_use():
            reader = await self._look()
            if channel not in self._published:
                self._published[channel] = await reader.ask(_published, channel)
            return self._published[channel]

    async def changed(self, channel: str, known: str, seconds: float) -> Published | None:
        """Wait until the channel is not what an `etag_of` of `known` says. Return None after `seconds`."""
        with anyio.move_on_after(seconds):
            async with self._in_use():
                while True:
                    version = self._version
                    published = await self.published(channel)
                    if published.etag != known:
                        return published
                    await self._commit_after(version)
        return None

    async def _commit_after(self, version: int) -> None:
        """Return when the store may have changed since it was looked at in that version."""
        if self._has_looker:
            if version == self._version:
                await self._looker_left.wait()
            return
        self._has_looker = True
        try:
            while version == self._version:
                await anyio.sleep(LOOK_SECONDS)
                await self._look()
        finally:
            self._has_looker = False
            left, self._looker_left = self._looker_left, anyio.Event()
            left.set()

    async def _look(self) -> Reader:
        """Return the reader. Checks for commits first, at most once in `LOOK_SECONDS`."""
        async with self._looking:
            now = time.monotonic()
            if self._reader is None:
                self._reader, self._looked, self._version = await Reader.open(self._store), 0.0, -1
            if now - self._looked >= LOOK_SECONDS:
                version = await self._reader.data_version()
                if version != self._version:
                    self._published = {}
                self._looked, self._version = now, version
            return self._reader

    @asynccontextmanager
    async def _in_use(self) -> AsyncGenerator[None]:
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


def _watcher(request: Request) -> Watcher:
    state = request.app.state
    if not hasattr(state, "watcher"):
        state.watcher = Watcher(request)
    return state.watcher
