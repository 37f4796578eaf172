"""Error pages."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from simba_actors.errors import (
    ConfigError,
    PublicationError,
    RunError,
    SimbaError,
    UnknownChannelError,
    UnknownProgramError,
    UnknownRunError,
    UnknownVersionError,
)
from simba_actors.web.rendering import page


async def simba_error(request: Request, error: Any) -> Response:
    """Show an error of this library with its message."""
    status, title = _meaning(error)
    return page(request, "error.html", status, title=title, message=str(error))


async def not_found(request: Request, error: Any) -> Response:
    return page(request, "error.html", 404, title="Not found", message="This page does not exist.")


async def broken(request: Request, error: Any) -> Response:
    """Show that something is broken. Starlette raises the error again, so that the server logs it."""
    message = "The dashboard could not render this page. The log of its process has the error."
    return page(request, "error.html", 500, title="Something is broken", message=message)


def _meaning(error: SimbaError) -> tuple[int, str]:
    match error:
        case UnknownRunError() | UnknownProgramError() | UnknownChannelError() | UnknownVersionError():
            return 404, "Not found"
        case RunError() | PublicationError():
            return 409, "Not possible"
        case ConfigError():
            return 400, "Invalid request"
        case _:
            return 503, "The store can't be read"
