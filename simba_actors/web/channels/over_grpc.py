"""Get, Watch and Report over gRPC, as `simba_actors.live.grpc_client` speaks them. It needs the extra `grpc`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread
from google.protobuf.message import DecodeError

from simba_actors.errors import ConfigError, SimbaError
from simba_actors.live.channel_messages import (
    SERVICE,
    GetRequest,
    Hint,
    Scores,
    SnapshotMessage,
    Stored,
    WatchRequest,
)
from simba_actors.live.client import LARGEST_BYTES
from simba_actors.live.recording import write_scores
from simba_actors.publishing.channel import check_channel
from simba_actors.transport.grpc_server import start_server
from simba_actors.transport.refusals import Refusal
from simba_actors.transport.security import TLS
from simba_actors.web.channels.reports import LARGEST_REPORT, score
from simba_actors.web.channels.watcher import Watcher


async def serve_channels(
    store: Path, address: str, *, token: str | None = None, tls: TLS | None = None
) -> tuple[Any, int]:
    """Serve a store's channels on the running event loop, and return the server with its port.

        server, port = await serve_channels(Path("simba.db"), "127.0.0.1:7001")
        await server.wait_for_termination()

    The other arguments and the errors are those of `start_server`.
    """
    watcher = Watcher(store)
    return await start_server(
        SERVICE,
        address,
        unary={"Get": partial(_get, watcher), "Report": partial(_report, store)},
        streams={"Watch": partial(_watch, watcher)},
        token=token,
        tls=tls,
        largest_message=LARGEST_BYTES,
    )


async def _get(watcher: Watcher, data: bytes) -> bytes:
    request = _read(GetRequest, data)
    try:
        published = await watcher.published(request.channel)
    except SimbaError as error:
        raise Refusal("unavailable", str(error)) from error
    body = b"" if published.etag == request.known_tag else published.body
    return SnapshotMessage(tag=published.etag, json=body).SerializeToString()


async def _watch(watcher: Watcher, data: bytes) -> AsyncIterator[bytes]:
    request = _read(WatchRequest, data)
    # A store that can't be read ends the watch. Get says why.
    with suppress(SimbaError):
        published = await watcher.changed(request.channel, request.known_tag)
        if published is not None:
            yield Hint(version=published.version).SerializeToString()


async def _report(store: Path, data: bytes) -> bytes:
    if len(data) > LARGEST_REPORT:
        raise Refusal("invalid_argument", f"a batch must have at most {LARGEST_REPORT:,} bytes")
    request = _read(Scores, data)
    try:
        scores = [score(request.channel, entry.call, entry.score) for entry in request.scores]
    except (ValueError, TypeError) as error:
        raise Refusal("invalid_argument", str(error)) from error
    try:
        await to_thread.run_sync(write_scores, store, scores)
    except SimbaError as error:
        raise Refusal("unavailable", str(error)) from error
    return Stored(scores=len(scores)).SerializeToString()


def _read(kind: Any, data: bytes) -> Any:
    """Return a request of a type. Raise Refusal if it is invalid or its channel's name is."""
    try:
        message = kind.FromString(data)
        check_channel(message.channel)
    except (DecodeError, ConfigError) as error:
        raise Refusal("invalid_argument", str(error)) from error
    return message
