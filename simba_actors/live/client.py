"""Clients for a channel on another host. Each makes the same three calls: Get, Watch and Report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from simba_actors.errors import ConfigError
from simba_actors.live.wire import Remote

CONNECT_SECONDS = 5.0
"""Seconds without an answer after which a Get or a Report has failed."""

WATCH_SECONDS = 20.0
"""Seconds without an answer after which a Watch has failed. The server ends it earlier."""

LARGEST_BYTES = 64 * 1024 * 1024
"""Maximum size of a snapshot in bytes. A larger one is refused."""


class ReportRefusedError(Exception):
    """The server refuses these scores for good, so they are not sent again."""


class ChannelClient(Protocol):
    """Client for one channel. Each call blocks, and raises OSError, HTTPException or ValueError if it fails."""

    def get(self, known: str) -> tuple[bytes, str] | None:
        """Return the snapshot as JSON, and its tag. Return None if the tag is still `known`."""
        ...

    def watch(self, known: str) -> None:
        """Return when the server says that the tag is not `known` any more, or when it ends the watch."""
        ...

    def report(self, scores: Sequence[tuple[str, float]]) -> None:
        """Send scores of calls, each with the call's id. Raise ReportRefusedError if sending again does not help."""
        ...


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
