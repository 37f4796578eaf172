"""Connections to gRPC servers. They need the extra `grpc`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from simba_actors.transport.security import TLS, is_loopback, unreadable


class Connector:
    """Opens connections to one server, whose credentials are read once.

    Args:
        target: The host and port.
        tls: Files for TLS; None connects without.
        largest_message: Bytes of the largest message in either direction.

    Raises:
        ConfigError: A file of `tls` can't be read.
    """

    def __init__(self, target: str, tls: TLS | None, largest_message: int) -> None:
        self._target = target
        self._credentials = None if tls is None else _credentials(tls)
        self._options = [
            ("grpc.max_receive_message_length", largest_message),
            ("grpc.max_send_message_length", largest_message),
            # So that a dead host is noticed even during a long call.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]
        if is_loopback(urlsplit(f"//{target}").hostname or ""):
            self._options.append(("grpc.enable_http_proxy", 0))  # A proxy can't reach it, and would see the token.

    def open(self) -> Any:
        """Return a new connection. Nothing is sent before the first call."""
        if self._credentials is None:
            return grpc.insecure_channel(self._target, self._options)
        return grpc.secure_channel(self._target, self._credentials, self._options)


def metadata(token: str | None) -> list[tuple[str, str]]:
    """Return the metadata that presents a token."""
    return [] if token is None else [("authorization", f"Bearer {token}")]


def status_of(error: Any) -> str:
    """Return the status code of a `grpc.RpcError` in lower case, as in a Refusal."""
    code = str(error.code().name).lower()
    return "canceled" if code == "cancelled" else code


def _credentials(tls: TLS) -> Any:
    def content(file: str | Path | None) -> bytes | None:
        return None if file is None else Path(file).read_bytes()

    try:
        return grpc.ssl_channel_credentials(content(tls.ca), content(tls.key), content(tls.certificate))
    except OSError as error:
        raise unreadable(tls, error) from error
