"""Bodies of requests: read as they arrive, up to a limit."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response


async def read_body(request: Request, largest: int) -> bytes:
    """Return the body. Raise HTTPException 413, and read no further, once it has more than `largest` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise HTTPException(413, f"The body must have at most {largest:,} bytes.")
    return bytes(body)


async def client_gone(request: Request, error: Any) -> Response:
    """End a request whose client has gone before its body was complete. Nobody receives the response."""
    return Response(status_code=499)
