"""Client for a channel over HTTP, as served by `simba_actors.web.dashboard(store, channels=True)`.

* **Get** `GET {url}/api/channels/{channel}`: a snapshot of the channel, with an `ETag`. 304 if it has not changed.
* **Watch** `GET {url}/api/channels/{channel}/watch?etag=…`: server-sent events; one arrives when the snapshot has
  changed.
* **Report** `POST {url}/api/channels/{channel}/reports`: scores, as `{"scores": [{"call": id, "score": 0.5}, …]}`.
"""

from __future__ import annotations

import http
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from simba_actors.live.client import CONNECT_SECONDS, LARGEST_BYTES, WATCH_SECONDS, ReportRefusedError
from simba_actors.live.wire import Remote
from simba_actors.transport.security import client_context, is_loopback

GET_SECONDS = 60.0
"""Maximum seconds for a whole snapshot to arrive."""

CHUNK = 64 * 1024

REFUSED = (
    http.HTTPStatus.BAD_REQUEST,
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    http.HTTPStatus.UNPROCESSABLE_ENTITY,
)
"""Statuses after which scores are not sent again. Others, such as that of a wrong token, say nothing about the
scores."""


class HTTPClient:
    """Reaches a channel at an address such as `https://host/simba`, with a connection for each call."""

    def __init__(self, remote: Remote) -> None:
        # Encoded as in the dashboard's pages, because proxies undo percent-encoding of slashes and dots.
        name = quote(remote.channel, safe="").replace("~", "%7E").replace(".", "%2E").replace("%", "~")
        self._address = f"{remote.url.rstrip('/')}/api/channels/{name}"
        self._token = remote.token
        handlers: list[Any] = [_NoRedirects]
        if is_loopback(urlsplit(remote.url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))  # A proxy can't reach it, and would see the token.
        if remote.tls is not None:
            handlers.append(urllib.request.HTTPSHandler(context=client_context(remote.tls)))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, known: str) -> tuple[bytes, str] | None:
        headers = {"If-None-Match": f'"{known}"'} if known else {}
        try:
            with self._open("", CONNECT_SECONDS, headers) as response:
                body = _body(response)
                # Proxies that compress mark the tag as weak.
                tag = str(response.headers.get("ETag", "")).removeprefix("W/").strip('"')
        except urllib.error.HTTPError as error:
            with error:
                if error.code == http.HTTPStatus.NOT_MODIFIED:
                    return None
                raise
        return body, tag

    def watch(self, known: str) -> None:
        deadline = time.monotonic() + WATCH_SECONDS
        with self._open(f"/watch?etag={quote(known)}", WATCH_SECONDS, {"Accept": "text/event-stream"}) as response:
            while line := response.readline(4096):
                if line.startswith(b"data:") or time.monotonic() > deadline:
                    return

    def report(self, scores: Sequence[tuple[str, float]]) -> None:
        body = json.dumps({"scores": [{"call": call, "score": score} for call, score in scores]}).encode()
        try:
            with self._open("/reports", CONNECT_SECONDS, {"Content-Type": "application/json"}, body) as response:
                response.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code in REFUSED:
                    raise ReportRefusedError(str(error)) from error
                raise

    def _open(self, path: str, seconds: float, headers: Mapping[str, str], body: bytes | None = None) -> Any:
        """Send a request and return the response. Raises OSError or HTTPException."""
        request = urllib.request.Request(f"{self._address}{path}", body, dict(headers))  # noqa: S310 - see is_url
        if self._token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return self._opener.open(request, timeout=seconds)


def _body(response: Any) -> bytes:
    """Return the body of a Get. Raise TimeoutError or ValueError if it is endless, however slowly it arrives."""
    deadline = time.monotonic() + GET_SECONDS
    body = bytearray()
    while chunk := response.read1(CHUNK):
        body += chunk
        if len(body) > LARGEST_BYTES:
            raise ValueError(f"the snapshot has more than {LARGEST_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the snapshot takes longer than {GET_SECONDS:g} s")
    return bytes(body)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, since that could send the token to another host."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Return None, which makes the redirect an error."""
