"""Who may look, and what a page may do in the browser."""

from __future__ import annotations

import secrets
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    it points here. What changes something must come from one of our own pages.
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


_NOT_LOCAL = "Only this machine is answered: give dashboard(store, token=…) to open it to others."


def _is_local(scope: Scope, headers: Headers) -> bool:
    client = scope.get("client")
    host = urlsplit(f"//{headers.get('host', '')}").hostname
    return (client is None or client[0] in LOOPBACK) and host in LOOPBACK


def _from_own_page(headers: Headers) -> bool:
    """Browsers say where a request comes from, and no page can change that; other programs say nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _bearer(headers: Headers) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")


def _cookie(headers: Headers) -> str:
    morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    return "" if morsel is None else morsel.value


def _same(shown: str, token: str) -> bool:
    return secrets.compare_digest(shown.encode(), token.encode())
