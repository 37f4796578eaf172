"""The door to a student over gRPC. It needs the extra `grpc`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import grpc

from simba_actors.bridge.calls import Refusal, error_of, unusable
from simba_actors.bridge.http_door import SERVICE, retry_seconds
from simba_actors.bridge.messages import LARGEST_MESSAGE, Object
from simba_actors.bridge.protobuf import METHODS, reader, writer
from simba_actors.bridge.security import TLS
from simba_actors.errors import ConfigError

OPTIONS = [
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    # A dead host is noticed, however long a Run takes.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]

TOO_LARGE = "larger than max"
"""What gRPC's own refusals of a message for its size have in their text. Their code is that of a busy student."""


class GRPCDoor:
    """Reaches a student at an address such as `grpc://127.0.0.1:7001`. All calls share a connection."""

    def __init__(self, parts: SplitResult, token: str | None, tls: TLS | None) -> None:
        self._address = parts.geturl()
        self._target = parts.netloc
        self._credentials = _credentials(tls or TLS()) if parts.scheme == "grpcs" else None
        self._metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        self._lock = threading.Lock()
        self._channel: Any = None
        self._parents: Any = None

    def call(self, method: str, message: Object | bytes, seconds: float) -> Any:
        request, reply = METHODS[method]
        try:
            data = message if isinstance(message, bytes) else writer(request)(message)
        except ValueError as error:
            raise error_of(Refusal("invalid_argument", f"nothing: the request is {error}"), self._address) from error
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
        """Open another connection. The parent's is kept unused: to close it would wait for threads of the parent."""
        self._lock = threading.Lock()
        self._parents, self._channel = self._channel, None

    def _open(self) -> Any:
        with self._lock:
            if self._channel is None:
                if self._credentials is None:
                    self._channel = grpc.insecure_channel(self._target, OPTIONS)
                else:
                    self._channel = grpc.secure_channel(self._target, self._credentials, OPTIONS)
            return self._channel

    def _error(self, error: Any) -> Exception:
        code, details = error.code().name.lower(), str(error.details())[:1000]
        if code == "resource_exhausted" and TOO_LARGE in details:
            return unusable(self._address, f"sends or gets a message that is too large: {details}")
        if code == "cancelled":
            code = "canceled"
        trailing = {str(name): value for name, value in error.trailing_metadata() or ()}
        return error_of(Refusal(code, details, retry_after=retry_seconds(trailing.get("retry-after"))), self._address)


def _credentials(tls: TLS) -> Any:
    def content(file: str | Path | None) -> bytes | None:
        return None if file is None else Path(file).read_bytes()

    try:
        return grpc.ssl_channel_credentials(content(tls.ca), content(tls.key), content(tls.certificate))
    except OSError as error:
        raise ConfigError(f"TLS: {error}: check the files of {tls}") from error
