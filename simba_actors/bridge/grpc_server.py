"""The gRPC door of a student written in Python, on `grpc.aio`. It needs the extra `grpc`."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from simba_actors.bridge.calls import Refusal
from simba_actors.bridge.http_door import SERVICE
from simba_actors.bridge.messages import LARGEST_MESSAGE, Object
from simba_actors.bridge.protobuf import METHODS, reader, writer
from simba_actors.bridge.security import TLS
from simba_actors.bridge.service import StudentService
from simba_actors.runtime.logs import get_logger

logger = get_logger(__name__)

OPTIONS = [
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),
]


async def start_grpc_server(
    service: StudentService, address: str, *, token: str | None = None, tls: TLS | None = None
) -> tuple[Any, int]:
    """Start a server on the running event loop, and return it with its port. Call `stop(grace)` to end it.

        server, port = await start_grpc_server(StudentService(program), "127.0.0.1:7001")
        await server.wait_for_termination()

    Args:
        service: What is served.
        address: The host and port to listen on; port 0 takes any that is free.
        token: What callers must present as metadata `authorization: Bearer TOKEN`.
        tls: The server's certificate and key. With `ca`, callers must have a certificate of that authority.

    Raises:
        RuntimeError: The address can't be listened on.
        OSError: A file of `tls` can't be read.
    """

    def answers(method: str) -> Any:
        async def answer(message: Object | ValueError, context: Any) -> bytes:
            try:
                _check(context, token)
                if isinstance(message, ValueError):
                    raise Refusal("invalid_argument", str(message)[:1000])  # noqa: TRY301 - as those of the service
                replied: Awaitable[Object] | Object = calls[method](message)
                return writer(METHODS[method][1])(await replied if inspect.isawaitable(replied) else replied)
            except Refusal as refusal:
                if refusal.retry_after is not None:
                    context.set_trailing_metadata((("retry-after", f"{refusal.retry_after:g}"),))
                await context.abort(_status(refusal.code), refusal.message)
            except Exception as error:
                if not isinstance(error, grpc.aio.AbortError):
                    logger.exception("a call to the student failed in a way that the protocol does not know")
                raise
            raise AssertionError("abort() returned")

        handler: Any = grpc.unary_unary_rpc_method_handler
        return handler(answer, request_deserializer=_lenient(reader(METHODS[method][0])))

    calls: dict[str, Callable[[Any], Awaitable[Object] | Object]] = {
        "Describe": service.describe,
        "Run": service.run,
        "Cancel": service.cancel,
    }
    server: Any = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {method: answers(method) for method in METHODS}),)
    )
    credentials = _credentials(tls)
    port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    await server.start()
    return server, port


def _lenient(read: Callable[[bytes], Object]) -> Callable[[bytes], Object | ValueError]:
    """Return errors in place of raising them, which gRPC would answer with an internal error."""

    def read_or_error(data: bytes) -> Object | ValueError:
        try:
            return read(data)
        except ValueError as error:
            return error

    return read_or_error


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
