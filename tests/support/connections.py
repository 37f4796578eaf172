"""Open connections to SQLite files, found by their threads: aiosqlite gives each connection one."""

from __future__ import annotations

import threading

from simba_actors.store.connection import THREAD_NAME

CLOSING_SECONDS = 60.0
"""Maximum seconds that the thread of a closed connection takes to end."""


def open_connections() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == THREAD_NAME}


def left_open(before: set[threading.Thread]) -> set[threading.Thread]:
    """Return the connections opened since `before`. This blocks the event loop, so that it can't close any late."""
    for thread in open_connections() - before:
        thread.join(CLOSING_SECONDS)
    return open_connections() - before
