"""Access: who may open the dashboard, and what a page may do in the browser."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
from urllib.parse import SplitResult, parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "simba_actors_token"
"""Start of the cookie's name. The rest depends on the token, since a browser keeps the cookies of all ports of a host
together, and would forget one dashboard's token for another's."""

FORWARDING = re.compile(
    r"(x-)?forwarded|via$|x-(auth|envoy|host|original|proxy|real|remote|rewrite|scheme)"
    r"|(x-)?(akamai|amzn|appengine|arr|azure|cdn|cf|cloud|fastly|fly|ngrok|sucuri|tailscale|varnish|vercel)-"
    r"|x-(amz|backend|bluecoat|caddy|coming|consumer|do|gateway|goog|haproxy|heroku|https$|istio|kong|ms-proxy|nginx)"
    r"|x-(peer|port$|proto$|queue-start|railway|render|request-start|script-name|ssl|traefik|url-scheme|varnish|zrok)"
    r"|(front-end|max-forwards|proxy|remote-user|rndr|x-client-cert|ssl-client|z-forwarded)"
    r"|.*(client-?ip|-ip|remote-addr)$"
)
"""Matches the names of headers that proxies, load balancers and tunnels add."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Only this application's own files: no inline script or style, no other host, no frame around it."""


class SafeHeaders:
    """Adds the headers that restrict what a browser does with the pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                # Without any referrer, browsers would also hide that a form over plain HTTP is from one of these pages.
                headers["Referrer-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_safely)


class AccessGuard:
    """Admits requests with the token or, if none is set, direct connections from this machine only.

    Without a token the client's address and the header `Host` must both be loopback, so that no other site can reach
    the dashboard by pointing a name at this machine. A request with a header that proxies add is refused, since its
    origin is unknown. A proxy on this machine that adds no such header and sends a loopback `Host` looks like a
    browser: set a token before putting one in front of the dashboard.

    Requests that change something must come from one of the dashboard's own pages.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token
        self._cookie = f"{COOKIE}_{hashlib.sha256((token or '').encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if _split(f"//{headers.get('host', '')}") is None:
            return PlainTextResponse("Refused: the header Host is not a valid host.", 400)
        if scope["method"] not in ("GET", "HEAD") and not _from_own_page(headers):
            return PlainTextResponse("Refused: this request came from another site's page.", 403)
        if self._token is None:
            return None if _is_local(scope, headers) else PlainTextResponse(_NOT_LOCAL, 403)
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if _same(shown, self._token):
            # Take the token out of the address bar, so that it is in no history, bookmark or screenshot.
            answer = RedirectResponse(scope["path"] or "/", 303)
            secure = scope.get("scheme") == "https"
            answer.set_cookie(self._cookie, self._token, secure=secure, httponly=True, samesite="strict")
            return answer
        if any(_same(known, self._token) for known in (_bearer(headers), _cookies(headers).get(self._cookie, ""))):
            return None
        return PlainTextResponse("This dashboard needs a token: open the printed address, which contains ?token=…", 401)


_NOT_LOCAL = (
    "Refused: without a token the dashboard answers only direct connections from its own machine, and this one came "
    "from elsewhere or through a proxy. Set dashboard(store, token=…) to open it to others."
)


def _is_local(scope: Scope, headers: Headers) -> bool:
    if any(FORWARDING.match(name) for name in headers):
        return False
    client, host = scope.get("client"), _split(f"//{headers.get('host', '')}")
    return client is not None and _is_loopback(client[0]) and host is not None and _is_loopback(host.hostname)


def _is_loopback(host: str | None) -> bool:
    """Return whether `host` is an address or name of this machine itself."""
    if host is None or host == "localhost":
        return host is not None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _from_own_page(headers: Headers) -> bool:
    """Return whether a request is from this site. Browsers add its origin, and no page can change that."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return True
    address = _split(origin)
    return address is not None and address.netloc == headers.get("host")


def _split(address: str) -> SplitResult | None:
    """Return the parts of an address, or None if it is invalid."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _bearer(headers: Headers) -> str:
    return headers.get("authorization", "").removeprefix("Bearer ")


def _cookies(headers: Headers) -> dict[str, str]:
    return cookie_parser(headers.get("cookie", ""))


def _same(shown: str, token: str) -> bool:
    return secrets.compare_digest(shown.encode(), token.encode())
