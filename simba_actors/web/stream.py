"""Server-sent events: a run's events as they are stored, without gaps over lost connections."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from simba_actors.events import Event
from simba_actors.observe.feed import LOOK_SECONDS
from simba_actors.observe.wording import described
from simba_actors.store.queries import Queries
from simba_actors.web.rendering import name_in, open_store, shown

SIGN_OF_LIFE_SECONDS = 15.0
"""How often a quiet stream says that it is still there, so that nobody on the way closes it."""


async def stream_events(request: Request) -> Response:
    """The events after the one that `Last-Event-ID`, or else the query's `after`, names; then new ones, to the end."""
    run_id = name_in(request, "run")
    last = request.headers.get("last-event-id") or request.query_params.get("after", "0")
    after = int(last) if last.isdecimal() else 0
    async with await open_store(request) as store:
        await store.run(run_id)
    return EventStream(_messages(request, run_id, after))


class EventStream(StreamingResponse):
    """Messages to one browser, until the run is over or the browser has gone."""

    def __init__(self, messages: AsyncGenerator[str]) -> None:
        super().__init__(messages, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._messages = messages

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._messages):
            await super().stream_response(send)


async def _messages(request: Request, run_id: str, after: int) -> AsyncGenerator[str]:
    async with await open_store(request) as store:
        seen, quiet_since = -1, time.monotonic()
        while True:
            version = await store.data_version()
            if version != seen:
                seen = version
                over = await _is_over(store, run_id)
                while events := await store.events(run_id, after):
                    yield "".join(map(_message, events))
                    after, quiet_since = events[-1].seq, time.monotonic()
                if over:
                    yield "event: over\ndata:\n\n"
                    return
            elif time.monotonic() - quiet_since > SIGN_OF_LIFE_SECONDS:
                yield ": still here\n\n"
                quiet_since = time.monotonic()
            await anyio.sleep(LOOK_SECONDS)


async def _is_over(store: Queries, run_id: str) -> bool:
    return (await store.run(run_id)).status in ("finished", "failed")


def _message(event: Event) -> str:
    """Its data is one line, since a line break would end it."""
    text = " ".join(shown(described(event)).split())
    return f"id: {event.seq}\ndata: {text}\n\n"
