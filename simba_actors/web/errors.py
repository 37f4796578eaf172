"""Pages for what went wrong."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from simba_actors.errors import (
    PublicationError,
    RunError,
    SimbaError,
    UnknownChannelError,
    UnknownProgramError,
    UnknownRunError,
    UnknownVersionError,
)
from simba_actors.web.rendering import page


async def told(request: Request, error: Any) -> Response:
    """An error of ours, in its own words."""
    return page(request, "error.html", _status(error), title=type(error).__name__, message=str(error))


async def not_found(request: Request, error: Any) -> Response:
    return page(request, "error.html", 404, title="Not found", message="There is no such page.")


def _status(error: SimbaError) -> int:
    match error:
        case UnknownRunError() | UnknownProgramError() | UnknownChannelError() | UnknownVersionError():
            return 404
        case RunError() | PublicationError():
            return 409
        case _:
            return 503
