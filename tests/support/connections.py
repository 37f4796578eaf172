"""Open connections to SQLite files, found by their threads: aiosqlite gives each connection one."""

from __future__ import annotations

import threading

from simba_actors.store.connection import THREAD_NAME
from tests.support.waiting import PATIENCE


def open_connections() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == THREAD_NAME}


def left_open(before: set[threading.Thread]) -> set[threading.Thread]:
    """Return the connections opened since `before`. This blocks the event loop, so that it can't close any late."""
    for thread in open_connections() - before:
        thread.join(PATIENCE)
    return open_connections() - before
