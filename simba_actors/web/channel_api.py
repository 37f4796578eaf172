"""Channels for live programs on other hosts: Get, Watch and Report, as `simba_actors.live.remote` speaks them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from simba_actors.errors import ConfigError
from simba_actors.evaluation.scoring import is_score
from simba_actors.live.follower import Snapshot
from simba_actors.live.recording import Score, write_scores
from simba_actors.live.remote import etag_of, snapshot_to_json
from simba_actors.live.routing import CallId
from simba_actors.programs import Configuration
from simba_actors.publishing import publications
from simba_actors.store import Reader
from simba_actors.web.rendering import open_store, site
from simba_actors.web.stream import EventStream

WATCH_SECONDS = 5.0
"""Seconds after which a watch ends and is asked for again. A server that shuts down waits for it."""

LOOK_SECONDS = 0.1
"""Seconds between looks at the store on behalf of all watches."""

LARGEST_REPORT = 1024 * 1024
"""Bytes of a batch of scores. A larger one is refused."""


async def get(request: Request) -> Response:
    """Return a snapshot of the channel, or 304 if the client has it already."""
    channel = request.path_params["channel"]
    async with await open_store(request) as store:
        snapshot = await store.ask(_snapshot, channel)
    etag = f'"{etag_of(snapshot.served)}"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    return JSONResponse(snapshot_to_json(snapshot), headers={"ETag": etag})


def _snapshot(db: sqlite3.Connection, channel: str) -> Snapshot:
    served = publications.served(db, channel)
    configurations = {
        publication.version: Configuration.from_json(publications.configuration_of(db, publication))
        for publication in served.publications
    }
    return Snapshot(served, configurations)


async def watch(request: Request) -> Response:
    """Send one server-sent event when the channel is not what the client knows any more."""
    return EventStream(_hints(request, request.path_params["channel"], request.query_params.get("etag", "")))


async def report(request: Request) -> Response:
    """Store a batch of scores. A second score of the same call does not count."""
    channel = request.path_params["channel"]
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
    deadline = time.monotonic() + WATCH_SECONDS
    yield ": watching\n\n"
    async with aclosing(_watcher(request).changes()) as changes:
        async for store in changes:
            served = await store.ask(publications.served, channel)
            if etag_of(served) != known:
                yield f"data: {served.version}\n\n"
                return
            if time.monotonic() >= deadline:
                return


class Watcher:
    """Looks at the store on behalf of all watches, through one connection that is open while there are any."""

    def __init__(self, request: Request) -> None:
        self._store = site(request).store
        self._watches = 0
        self._reader: Reader | None = None
        self._version = 0
        self._looked = 0.0
        self._looking = anyio.Lock()

    async def changes(self) -> AsyncGenerator[Reader]:
        """Yield a reader of the store: at once, then each time that something was committed, and now and then."""
        self._watches += 1
        seen, idle_until = -1, 0.0
        try:
            while True:
                reader = await self._look()
                if self._version != seen or time.monotonic() >= idle_until:
                    seen, idle_until = self._version, time.monotonic() + 1.0
                    yield reader
                await anyio.sleep(LOOK_SECONDS)
        finally:
            self._watches -= 1
            if self._watches == 0:
                reader, self._reader = self._reader, None
                if reader is not None:
                    with anyio.CancelScope(shield=True):
                        await reader.close()

    async def _look(self) -> Reader:
        async with self._looking:
            if self._reader is None:
                self._reader = await Reader.open(self._store)
            now = time.monotonic()
            if now - self._looked >= LOOK_SECONDS:
                self._looked = now
                self._version = await self._reader.data_version()
            return self._reader


def _watcher(request: Request) -> Watcher:
    state = request.app.state
    if not hasattr(state, "watcher"):
        state.watcher = Watcher(request)
    return state.watcher
