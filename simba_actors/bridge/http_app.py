"""The HTTP server of a student written in Python, as an ASGI application. It needs the extra `web`."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simba_actors.bridge.http_client import SERVICE
from simba_actors.bridge.messages import LARGEST_MESSAGE, Object
from simba_actors.bridge.service import StudentService
from simba_actors.runtime.logs import get_logger
from simba_actors.transport.refusals import Refusal
from simba_actors.transport.security import check_token

logger = get_logger(__name__)

Answer: TypeAlias = Callable[[Any], Awaitable[Object]]


def student_app(service: StudentService, *, token: str | None = None) -> Starlette:
    """Return an ASGI application that serves a student to optimizers elsewhere.

        app = student_app(StudentService(program), token=os.environ["SIMBA_STUDENT_TOKEN"])

    It can be mounted in another application under a path, which the optimizer's address then includes:
    `RemoteStudent("https://host/student")`. Runs under way are cancelled when it ends.

    Args:
        service: The student to serve.
        token: The token that callers must present as `Authorization: Bearer TOKEN`. With None there is no check, which
            suits loopback and servers that authenticate callers themselves.

    Raises:
        ConfigError: The token is empty or has characters other than visible ASCII.
    """
    check_token(token)

    async def describe(message: Any) -> Object:
        return service.describe(message)

    answers: dict[str, Answer] = {"Describe": describe, "Run": service.run, "Cancel": service.cancel}

    async def call(request: Request) -> Response:
        try:
            _check(request, token)
            answer = answers.get(request.path_params["method"])
            if answer is None:
                return _refused(Refusal("unimplemented", "a student has the methods Describe, Run and Cancel"))
            return Response(orjson.dumps(await answer(await _message(request))), media_type="application/json")
        except Refusal as refusal:
            return _refused(refusal)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:
            logger.exception("a call to the student failed with an unexpected error")
            return _refused(Refusal("internal", f"{type(error).__name__}; the student's log says more"))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        yield
        await service.close()

    return Starlette(routes=[Route(f"/{SERVICE}/{{method}}", call, methods=["POST"])], lifespan=lifespan)


def _check(request: Request, token: str | None) -> None:
    """Raise Refusal unless the request has the token and comes from a program rather than a web page."""
    if token is not None:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(shown.encode(), token.encode()):
            raise Refusal("unauthenticated", "the token is missing or wrong")
    if "origin" in request.headers:  # Browsers send it with each POST.
        raise Refusal("permission_denied", "web pages may not call a student")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal("invalid_argument", "the content type must be application/json", http_status=415)


async def _message(request: Request) -> Any:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_MESSAGE:
            raise Refusal("invalid_argument", f"a request has at most {LARGEST_MESSAGE:,} bytes", http_status=413)
    try:
        return orjson.loads(bytes(body))
    except orjson.JSONDecodeError as error:
        raise Refusal("invalid_argument", f"the body is not JSON: {error}") from None


def _refused(refusal: Refusal) -> Response:
    headers = {} if refusal.retry_after is None else {"Retry-After": f"{refusal.retry_after:g}"}
    return JSONResponse({"code": refusal.code, "message": refusal.message}, refusal.http_status, headers)
