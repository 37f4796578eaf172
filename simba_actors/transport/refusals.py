"""How a server refuses a call, by the status codes of gRPC."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - it is an answer of the protocol, not a defect
    """A server's answer to a call that it can't serve, as a table in `bridge.proto` lists them.

    Args:
        code: One of gRPC's status codes in lower case, as in "resource_exhausted".
        message: What is wrong.
        retry_after: Seconds that the caller should wait.
        http_status: The HTTP status; by default the code's own.
    """

    def __init__(
        self, code: str, message: str, *, retry_after: float | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.http_status = http_status or HTTP_STATUS.get(code, 500)


HTTP_STATUS: Mapping[str, int] = {
    "canceled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "data_loss": 500,
    "unauthenticated": 401,
}
"""gRPC's status codes and their HTTP statuses, as in the Connect protocol."""

CODE_OF_STATUS: Mapping[int, str] = {
    400: "invalid_argument",
    401: "unauthenticated",
    403: "permission_denied",
    404: "unimplemented",
    405: "unimplemented",
    408: "deadline_exceeded",
    409: "already_exists",
    413: "invalid_argument",
    425: "unavailable",
    429: "resource_exhausted",
    499: "canceled",
    501: "unimplemented",
    502: "unavailable",
    503: "unavailable",
    504: "deadline_exceeded",
}
"""Codes of HTTP answers without a code in the body, such as those of a proxy."""
