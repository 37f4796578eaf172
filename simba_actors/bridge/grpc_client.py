"""Client for a student over gRPC. It needs the extra `grpc`."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import SplitResult

import grpc

from simba_actors.bridge.calls import error_of, not_sent, unusable
from simba_actors.bridge.http_client import SERVICE, retry_seconds
from simba_actors.bridge.messages import LARGEST_MESSAGE, Object
from simba_actors.bridge.protobuf import METHODS, reader, writer
from simba_actors.transport.grpc_client import Connector, metadata, status_of
from simba_actors.transport.refusals import Refusal
from simba_actors.transport.security import TLS, remedy_of

TOO_LARGE = "larger than max"
"""Text in gRPC's own refusals of messages that are too large. Their code is the same as that of a busy student."""


class GRPCClient:
    """Reaches a student at an address such as `grpc://127.0.0.1:7001`. All calls share a connection."""

    def __init__(self, parts: SplitResult, token: str | None, tls: TLS | None) -> None:
        self._address = parts.geturl()
        self._connector = Connector(parts.netloc, tls or TLS() if parts.scheme == "grpcs" else None, LARGEST_MESSAGE)
        self._metadata = metadata(token)
        self._lock = threading.Lock()
        self._channel: Any = None
        self._parents: Any = None

    def call(self, method: str, message: Object | bytes, seconds: float) -> Any:
        request, reply = METHODS[method]
        try:
            data = message if isinstance(message, bytes) else writer(request)(message)
        except ValueError as error:
            raise not_sent(self._address, f"it is {error}") from error
        call: Any = self._open().unary_unary(f"/{SERVICE}/{method}")
        try:
            answer: bytes = call(data, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._error(error) from error
        try:
            return reader(reply)(answer)
        except ValueError as error:
            raise unusable(self._address, f"answered {method} with what is {error}"[:1000]) from None

    def forget(self) -> None:
        """Open another connection. Keep the parent's unused: closing it would wait for threads that the child lacks."""
        self._lock = threading.Lock()
        self._parents, self._channel = self._channel, None

    def _open(self) -> Any:
        with self._lock:
            if self._channel is None:
                self._channel = self._connector.open()
            return self._channel

    def _error(self, error: Any) -> Exception:
        code, details = status_of(error), str(error.details())[:1000]
        details += remedy_of(details)
        if code == "resource_exhausted" and TOO_LARGE in details:
            return unusable(self._address, f"sends or gets a message that is too large: {details}")
        trailing = {str(name): value for name, value in error.trailing_metadata() or ()}
        return error_of(Refusal(code, details, retry_after=retry_seconds(trailing.get("retry-after"))), self._address)
