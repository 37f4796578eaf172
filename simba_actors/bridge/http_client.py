"""Client for a student over HTTP. Each call is a POST with JSON, on a connection of its own."""

from __future__ import annotations

import http.client
import json
import math
import time
from typing import Any, cast
from urllib.parse import SplitResult

from simba_actors.bridge.calls import error_of, unusable
from simba_actors.bridge.messages import LARGEST_MESSAGE, Object
from simba_actors.transport.refusals import CODE_OF_STATUS, HTTP_STATUS, Refusal
from simba_actors.transport.security import TLS, client_context, remedy_of

SERVICE = "simba_actors.bridge.Student"

CONNECT_SECONDS = 10.0
"""Maximum seconds to connect."""

CHUNK = 64 * 1024


class HTTPClient:
    """Reaches a student at an address such as `http://127.0.0.1:7000`."""

    def __init__(self, parts: SplitResult, token: str | None, tls: TLS | None) -> None:
        self._address = parts.geturl()
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path.rstrip("/")
        self._headers = {"Content-Type": "application/json", "Connect-Protocol-Version": "1"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = client_context(tls or TLS()) if parts.scheme == "https" else None

    def call(self, method: str, message: Object | bytes, seconds: float) -> Any:
        body = message if isinstance(message, bytes) else json.dumps(message, ensure_ascii=False).encode()
        deadline = time.monotonic() + seconds
        connection = self._connection(min(CONNECT_SECONDS, seconds))
        try:
            connection.connect()
            connection.sock.settimeout(seconds)
            connection.request("POST", f"{self._path}/{SERVICE}/{method}", body, self._headers)
            with connection.getresponse() as response:
                answer = self._read(response, deadline)
        except (OSError, http.client.HTTPException) as error:
            what = "does not answer in time" if isinstance(error, TimeoutError) else "can't be reached"
            raise unusable(self._address, f"{what}: {type(error).__name__}: {error}{remedy_of(str(error))}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise error_of(_refusal(response, answer), self._address)
        return self._json(answer)

    def forget(self) -> None:
        """Do nothing: no connection outlives its call."""

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=seconds)

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        """Read the body. The deadline holds for all of it, however slowly it arrives."""
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read1(CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > LARGEST_MESSAGE:
                raise unusable(self._address, f"sends an answer of more than {LARGEST_MESSAGE:,} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError("the answer takes too long")
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(chunks)

    def _json(self, answer: bytes) -> Any:
        try:
            return json.loads(answer, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise unusable(self._address, f"answered with something other than JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _refusal(response: http.client.HTTPResponse, answer: bytes) -> Refusal:
    """Return the refusal that an answer other than 200 states. It may come from a proxy or a web framework."""
    status = response.status
    code, message = _code_of(status), f"HTTP {status} {response.reason}"
    if http.HTTPStatus.MULTIPLE_CHOICES <= status < http.HTTPStatus.BAD_REQUEST:
        elsewhere = response.getheader("Location", "")
        message += f" to {elsewhere!r:.200}, which is not followed: use the student's own address"
    try:
        body: Any = json.loads(answer)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        fields = cast("dict[str, Any]", body)
        stated = fields.get("code")
        code = stated if isinstance(stated, str) and stated in HTTP_STATUS else code
        text = fields.get("message") or fields.get("detail") or fields.get("error")
        if text:
            message = (text if isinstance(text, str) else json.dumps(text))[:1000] + f" (HTTP {status})"
    return Refusal(code, message, retry_after=retry_seconds(response.getheader("Retry-After")), http_status=status)


def _code_of(status: int) -> str:
    """Return the code of an answer that does not name one. Most statuses of 4xx mean that the request is wrong."""
    is_refused = http.HTTPStatus.BAD_REQUEST <= status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    return CODE_OF_STATUS.get(status, "invalid_argument" if is_refused else "unknown")


def retry_seconds(text: Any) -> float | None:
    """Return the seconds of a `Retry-After`, or None if it is a date."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
