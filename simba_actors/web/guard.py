"""Who may look, and what a page may do in the browser."""

from __future__ import annotations

import re
import secrets
from urllib.parse import SplitResult, parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simba_actors.errors import ConfigError

COOKIE = "simba_actors_token"

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing but this application's own files: no inline script or style, no other host, no frame around it."""


class SafeHeaders:
    """Adds the headers that keep a browser from doing more than showing pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                # Without any referrer, browsers hide from us, too, that a form over plain HTTP is from our own page.
                headers["Referrer-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_safely)


class AccessGuard:
    """Lets in who shows the token, or, without one, who is on this machine.

    The `Host` header must be this machine's too, so that no other site can reach the dashboard by way of a name that
    it points here, and nothing may have passed the request on, since then nobody knows where it is from. What changes
    something must come from one of our own pages.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if _split(f"//{headers.get('host', '')}") is None:
            return PlainTextResponse("Refused: the header Host names no host.", 400)
        if scope["method"] not in ("GET", "HEAD") and not _from_own_page(headers):
            return PlainTextResponse("Refused: this came from another site's page.", 403)
        if self._token is None:
            return None if _is_local(scope, headers) else PlainTextResponse(_NOT_LOCAL, 403)
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if _same(shown, self._token):
            # The token leaves the address bar, so that it gets into no history, bookmark or screenshot.
            answer = RedirectResponse(scope["path"] or "/", 303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        if any(_same(known, self._token) for known in (_bearer(headers), _cookie(headers))):
            return None
        return PlainTextResponse("A token is needed: open the address that was printed, with ?token=… in it.", 401)


_NOT_LOCAL = (
    "Only this machine is answered, and nothing that a proxy passes on: give dashboard(store, token=…) to open it to "
    "others."
)


def check_token(token: object) -> None:
    """Raises ConfigError if that is no token."""
    if token is not None and not (isinstance(token, str) and re.fullmatch("[!-~]+", token)):
        raise ConfigError(f"token={token!r:.80}: must be visible ASCII characters, at least one, or None for no token")


def _is_local(scope: Scope, headers: Headers) -> bool:
    if "x-forwarded-for" in headers or "forwarded" in headers:
        return False
    client, host = scope.get("client"), _split(f"//{headers.get('host', '')}")
    return (client is None or client[0] in LOOPBACK) and host is not None and host.hostname in LOOPBACK


def _from_own_page(headers: Headers) -> bool:
    """Browsers say where a request comes from, and no page can change that; other programs say nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return True
    address = _split(origin)
    return address is not None and address.netloc == headers.get("host")


def _split(address: str) -> SplitResult | None:
    """Its parts, None if it is no address."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _bearer(headers: Headers) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")


def _cookie(headers: Headers) -> str:
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def _same(shown: str, token: str) -> bool:
    return secrets.compare_digest(shown.encode(), token.encode())
