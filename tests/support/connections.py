"""Connections to SQLite files that are still open: aiosqlite gives each a thread of its own."""

from __future__ import annotations

import threading

CLOSING_SECONDS = 2.0
"""How long the thread of a connection that is closed may take to end."""


def open_connections() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name}


def left_open(before: set[threading.Thread]) -> set[threading.Thread]:
    """Those that were opened since `before`. The event loop does not turn meanwhile: nothing is closed later on."""
    for thread in open_connections() - before:
        thread.join(CLOSING_SECONDS)
    return open_connections() - before
