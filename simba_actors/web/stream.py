"""Server-sent events: a run's events as they are stored, without gaps when a connection is lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from simba_actors.events import Event
from simba_actors.observe.wording import described
from simba_actors.store import Reader
from simba_actors.web.rendering import name_in, open_store, shown, whole

ASK_AGAIN_MILLISECONDS = 1000
"""Milliseconds that a browser waits before it asks for newer events."""


async def stream_events(request: Request) -> Response:
    """Send the events after `Last-Event-ID`, or after the query's `after`, and whether more will come.

    The response ends after the stored events, and the browser asks again. A stream that stayed open would keep the
    whole service from shutting down, because servers wait for responses in progress without telling the application.
    """
    run_id = name_in(request, "run")
    after = whole(request.headers.get("last-event-id") or request.query_params.get("after")) or 0
    async with await open_store(request) as store:
        await store.run(run_id)
    return EventStream(_messages(request, run_id, after))


class EventStream(StreamingResponse):
    """Response that sends messages to one browser until all are sent or the browser disconnects."""

    def __init__(self, messages: AsyncGenerator[str]) -> None:
        super().__init__(messages, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._messages = messages

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._messages):
            await super().stream_response(send)


async def _messages(request: Request, run_id: str, after: int) -> AsyncGenerator[str]:
    async with await open_store(request) as store:
        yield f"retry: {ASK_AGAIN_MILLISECONDS}\n\n"
        over = await _is_over(store, run_id)
        while events := await store.events(run_id, after):
            yield "".join(map(_message, events))
            after = events[-1].seq
        if over:
            yield "event: over\ndata:\n\n"


async def _is_over(store: Reader, run_id: str) -> bool:
    return (await store.run(run_id)).status in ("finished", "failed")


def _message(event: Event) -> str:
    """Return an event as one message. Its data is one line, since a line break would end it."""
    text = " ".join(shown(described(event)).split())
    return f"id: {event.seq}\ndata: {text}\n\n"
