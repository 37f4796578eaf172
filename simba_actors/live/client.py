"""Clients for a channel on another host. Each makes the same three calls: Get, Watch and Report."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from simba_actors.errors import ConfigError
from simba_actors.live.wire import Remote
from simba_actors.lm.secrets import Secrets
from simba_actors.transport.security import remedy_of

CONNECT_SECONDS = 5.0
"""Seconds without an answer after which a Get or a Report has failed."""

WATCH_SECONDS = 20.0
"""Seconds without an answer after which a Watch has failed. The server ends it earlier."""

RETRY_SECONDS = (0.25, 2.0)
"""Seconds before the second attempt to reach the server, and their maximum. They double from attempt to attempt."""

LONGEST_RETRY_AFTER = 60.0
"""Maximum seconds to wait because the server asks for it. It could ask for a day by mistake."""

LARGEST_BYTES = 64 * 1024 * 1024
"""Maximum size of a snapshot in bytes. A larger one is refused."""


REMEDIES: Mapping[str, str] = {
    "HTTP Error 401": "give it the token of the server, as token=…",
    "HTTP Error 403": "have the server, or what is in front of it, let this process in",
    "HTTP Error 404": "the server must be `simba-actors serve --channels`, at the address of its start page",
    "unauthenticated": "give it the token of the server, as token=…",
    "unimplemented": "the server must be `simba-actors serve --channels --grpc-port …`",
}
"""What to do about an error of a server, by words in it."""


class ReportRefusedError(Exception):
    """The server refuses these scores for good, so they are not sent again."""


class ChannelClient(Protocol):
    """Client for one channel. Each call blocks, and raises OSError, HTTPException or ValueError if it fails."""

    def get(self, known: str) -> tuple[bytes, str] | None:
        """Return the snapshot as JSON, and its tag. Return None if the tag is still `known`."""
        ...

    def watch(self, known: str) -> None:
        """Block until the server says that the tag is not `known` any more, or ends the watch."""
        ...

    def report(self, scores: Sequence[tuple[str, float]]) -> None:
        """Send scores of calls, each with the call's id. Raise ReportRefusedError if sending again does not help."""
        ...


def retry_delay(error: Exception, failures: int) -> float:
    """Return the seconds to wait after `failures` in a row: what the server asks for, or a time that doubles."""
    shortest, longest = RETRY_SECONDS
    backoff = min(longest, shortest * 2.0 ** min(failures - 1, 20)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    headers: Mapping[str, str] | None = getattr(error, "headers", None)
    try:
        asked = float(headers.get("Retry-After", "0")) if headers is not None else 0.0
        return max(backoff, min(asked, LONGEST_RETRY_AFTER))
    except ValueError:  # A date, whose meaning depends on two clocks.
        return backoff


def described(error: Exception, secrets: Secrets) -> str:
    """Return what an error says, without secrets, and what to do about it."""
    text = secrets.describe(error)
    return text + next((f": {remedy}" for words, remedy in REMEDIES.items() if words in text), remedy_of(text))


def open_client(remote: Remote) -> ChannelClient:
    """Return the client that the address of a channel asks for.

    Raises:
        ConfigError: A file of `remote.tls` can't be read, or gRPC is not installed.
    """
    if remote.scheme in ("grpc", "grpcs"):
        try:
            from simba_actors.live.grpc_client import GRPCClient
        except ImportError as error:
            raise ConfigError(
                f"store={remote.url!r:.80} needs the extra `grpc` ({error}): pip install 'simba_actors[grpc]'"
            ) from error
        return GRPCClient(remote)
    from simba_actors.live.http_client import HTTPClient

    return HTTPClient(remote)
