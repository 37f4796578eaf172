"""Get, Watch and Report over HTTP, as `simba_actors.live.http_client` speaks them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from simba_actors.errors import SimbaError
from simba_actors.live.recording import Score, write_scores
from simba_actors.web.bodies import read_body
from simba_actors.web.channels.reports import LARGEST_REPORT, score
from simba_actors.web.channels.watcher import Watcher
from simba_actors.web.rendering import name_in, site
from simba_actors.web.stream import EventStream


def routes(watcher: Watcher) -> list[BaseRoute]:
    """Return the routes of an application that serves channels."""

    async def get(request: Request) -> Response:
        """Return a snapshot of the channel, or 304 if the client has it already."""
        published = await watcher.published(name_in(request, "channel"))
        headers = {"ETag": f'"{published.etag}"'}
        if request.headers.get("if-none-match", "").removeprefix("W/") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(published.body, headers=headers, media_type="application/json")

    async def watch(request: Request) -> Response:
        """Send one server-sent event when the channel is not what the client knows any more."""
        return EventStream(_hints(watcher, name_in(request, "channel"), request.query_params.get("etag", "")))

    return [
        Route("/api/channels/{channel}", get),
        Route("/api/channels/{channel}/watch", watch),
        Route("/api/channels/{channel}/reports", _report, methods=["POST"]),
    ]


async def _report(request: Request) -> Response:
    """Store a batch of scores. A second score of the same call does not count."""
    channel = name_in(request, "channel")
    body = await read_body(request, LARGEST_REPORT)
    try:
        entries: list[Any] = orjson.loads(body)["scores"]
        scores: list[Score] = [score(channel, entry["call"], entry["score"]) for entry in entries]
    except (ValueError, TypeError, LookupError) as error:
        reason = f'the body must be {{"scores": [{{"call": id, "score": number}}, …]}}: {error}'
        return JSONResponse({"error": reason}, 422)
    await to_thread.run_sync(write_scores, site(request).store, scores)
    return JSONResponse({"scores": len(scores)})


async def _hints(watcher: Watcher, channel: str, known: str) -> AsyncGenerator[str]:
    yield ": watching\n\n"
    # A store that can't be read ends the watch. Get says why.
    with suppress(SimbaError):
        published = await watcher.changed(channel, known)
        if published is not None:
            yield f"data: {published.version}\n\n"
