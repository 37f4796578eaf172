"""Servers on `grpc.aio`. They need the extra `grpc`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from simba_actors.runtime.logs import get_logger
from simba_actors.transport.refusals import Refusal
from simba_actors.transport.security import TLS, check_token

logger = get_logger(__name__)

OPTIONS = [
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
]

Unary = Callable[[bytes], Awaitable[bytes]]
"""Answers a request with one message."""

Stream = Callable[[bytes], AsyncIterator[bytes]]
"""Answers a request with a stream of messages."""


async def start_server(
    service: str,
    address: str,
    *,
    unary: Mapping[str, Unary],
    streams: Mapping[str, Stream] | None = None,
    token: str | None = None,
    tls: TLS | None = None,
    largest_message: int,
) -> tuple[Any, int]:
    """Start a server on the running event loop, and return it with its port. Call `stop(grace)` to end it.

    Args:
        service: Full name of the service.
        address: The host and port to listen on; port 0 takes any that is free.
        unary: A function for each method with one reply. If it raises a Refusal, that is the status of the call.
        streams: A function for each method with a stream of replies.
        token: The token that callers must present as metadata `authorization: Bearer TOKEN`.
        tls: The server's certificate and key. With `ca`, callers must have a certificate of that authority.
        largest_message: Bytes of the largest message in either direction.

    Raises:
        ConfigError: The token is empty or has characters other than visible ASCII.
        RuntimeError: The address can't be listened on.
        OSError: A file of `tls` can't be read.
    """
    check_token(token)
    one: Any = grpc.unary_unary_rpc_method_handler
    many: Any = grpc.unary_stream_rpc_method_handler
    handlers: dict[str, Any] = {name: one(_unary(answer, token)) for name, answer in unary.items()}
    handlers |= {name: many(_stream(answer, token)) for name, answer in (streams or {}).items()}
    sizes = [("grpc.max_receive_message_length", largest_message), ("grpc.max_send_message_length", largest_message)]
    server: Any = grpc.aio.server(options=[*OPTIONS, *sizes])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    credentials = _credentials(tls)
    port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    await server.start()
    return server, port


def _unary(answer: Unary, token: str | None) -> Any:
    async def handle(message: bytes, context: Any) -> bytes:
        try:
            _check(context, token)
            return await answer(message)
        except Exception as error:
            await _abort(context, error)
            raise

    return handle


def _stream(answer: Stream, token: str | None) -> Any:
    async def handle(message: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            _check(context, token)
            async for reply in answer(message):
                yield reply
        except Exception as error:
            await _abort(context, error)
            raise

    return handle


async def _abort(context: Any, error: Exception) -> None:
    """End a call with the status of a Refusal. Log any other error, for which gRPC sends a status of its own."""
    if not isinstance(error, Refusal):
        logger.error("a call failed with an unexpected error", exc_info=error)
        return
    if error.retry_after is not None:
        context.set_trailing_metadata((("retry-after", f"{error.retry_after:g}"),))
    await context.abort(_status(error.code), error.message)


def _check(context: Any, token: str | None) -> None:
    if token is None:
        return
    shown = next((str(value) for name, value in context.invocation_metadata() if name == "authorization"), "")
    if not secrets.compare_digest(shown.removeprefix("Bearer ").encode(), token.encode()):
        raise Refusal("unauthenticated", "the token is missing or wrong")


def _status(code: str) -> grpc.StatusCode:
    name = "CANCELLED" if code == "canceled" else code.upper()
    return next((status for status in grpc.StatusCode if status.name == name), grpc.StatusCode.INTERNAL)


def _credentials(tls: TLS | None) -> Any:
    if tls is None or tls.certificate is None or tls.key is None:
        return None
    pair = Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes()
    authority = None if tls.ca is None else Path(tls.ca).read_bytes()
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
