"""Client for a channel over gRPC, as served by `simba-actors serve --grpc-port`. It needs the extra `grpc`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import grpc

from simba_actors.live.channel_messages import (
    SERVICE,
    GetRequest,
    Hint,
    ScoreMessage,
    Scores,
    SnapshotMessage,
    Stored,
    WatchRequest,
)
from simba_actors.live.client import CONNECT_SECONDS, LARGEST_BYTES, WATCH_SECONDS, ReportRefusedError
from simba_actors.live.wire import Remote
from simba_actors.runtime.forks import survive_forks
from simba_actors.transport.grpc_client import Connector, metadata, status_of
from simba_actors.transport.security import TLS

REFUSED = frozenset({"failed_precondition", "invalid_argument", "out_of_range"})
"""Status codes after which scores are not sent again. Others, such as that of a wrong token, say nothing about the
scores."""


class GRPCClient:
    """Reaches a channel at an address such as `grpc://host:7001`. All calls share a connection."""

    def __init__(self, remote: Remote) -> None:
        secure = (remote.tls or TLS()) if remote.scheme == "grpcs" else None
        self._connector = Connector(remote.host, secure, LARGEST_BYTES)
        self._metadata = metadata(remote.token)
        self._channel = remote.channel
        self._lock = threading.Lock()
        self._connection: Any = None
        self._parents: Any = None
        survive_forks(self)

    def get(self, known: str) -> tuple[bytes, str] | None:
        request = GetRequest(channel=self._channel, known_tag=known)
        snapshot = self._call("Get", request, SnapshotMessage, CONNECT_SECONDS)
        return (snapshot.json, snapshot.tag) if snapshot.json else None

    def watch(self, known: str) -> None:
        request = WatchRequest(channel=self._channel, known_tag=known)
        method = self._open().unary_stream(f"/{SERVICE}/Watch", WatchRequest.SerializeToString, Hint.FromString)
        stream = method(request, timeout=WATCH_SECONDS, metadata=self._metadata)
        try:
            next(stream, None)
        except grpc.RpcError as error:
            raise _failed("Watch", error) from error
        finally:
            stream.cancel()

    def report(self, scores: Sequence[tuple[str, float]]) -> None:
        entries = [ScoreMessage(call=call, score=score) for call, score in scores]
        self._call("Report", Scores(channel=self._channel, scores=entries), Stored, CONNECT_SECONDS)

    def before_fork(self) -> None:
        """Do nothing: gRPC has fork handlers of its own."""

    def after_fork_in_parent(self) -> None:
        """Do nothing: nothing was closed."""

    def after_fork_in_child(self) -> None:
        """Open another connection. Keep the parent's unused: closing it would wait for threads that the child lacks."""
        self._lock = threading.Lock()
        self._parents, self._connection = self._connection, None

    def _call(self, name: str, request: Any, reply: Any, seconds: float) -> Any:
        method = self._open().unary_unary(f"/{SERVICE}/{name}", type(request).SerializeToString, reply.FromString)
        try:
            return method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            if name == "Report" and status_of(error) in REFUSED:
                raise ReportRefusedError(str(_failed(name, error))) from error
            raise _failed(name, error) from error

    def _open(self) -> Any:
        with self._lock:
            if self._connection is None:
                self._connection = self._connector.open()
            return self._connection


def _failed(name: str, error: Any) -> ConnectionError:
    return ConnectionError(f"{name}: {status_of(error)}: {error.details()}")
