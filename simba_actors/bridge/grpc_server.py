"""The gRPC server of a student written in Python. It needs the extra `grpc`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from simba_actors.bridge.http_client import SERVICE
from simba_actors.bridge.messages import LARGEST_MESSAGE, Object
from simba_actors.bridge.protobuf import METHODS, reader, writer
from simba_actors.bridge.service import StudentService
from simba_actors.transport.grpc_server import Unary, start_server
from simba_actors.transport.refusals import Refusal
from simba_actors.transport.security import TLS


async def start_grpc_server(
    service: StudentService, address: str, *, token: str | None = None, tls: TLS | None = None
) -> tuple[Any, int]:
    """Serve a student on the running event loop, and return the server with its port. Call `stop(grace)` to end it.

        server, port = await start_grpc_server(StudentService(program), "127.0.0.1:7001")
        await server.wait_for_termination()

    The arguments and errors are those of `start_server`.
    """
    calls: dict[str, Callable[[Any], Awaitable[Object] | Object]] = {
        "Describe": service.describe,
        "Run": service.run,
        "Cancel": service.cancel,
    }
    return await start_server(
        SERVICE,
        address,
        unary={method: _answering(method, call) for method, call in calls.items()},
        token=token,
        tls=tls,
        largest_message=LARGEST_MESSAGE,
    )


def _answering(method: str, call: Callable[[Any], Awaitable[Object] | Object]) -> Unary:
    request, reply = METHODS[method]
    read, write = reader(request), writer(reply)

    async def answer(data: bytes) -> bytes:
        try:
            message = read(data)
        except ValueError as error:
            raise Refusal("invalid_argument", str(error)[:1000]) from None
        replied = call(message)
        return write(await replied if inspect.isawaitable(replied) else replied)

    return answer
