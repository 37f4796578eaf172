"""Connections to a store's file that write in whole transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import aiosqlite

R = TypeVar("R")

Kind = Literal["IMMEDIATE", "DEFERRED"]

_ROWS_FETCHED_AT_ONCE = 64
"""As aiosqlite has it."""


class Connection(aiosqlite.Connection):
    """aiosqlite's connection, and transactions that nothing can leave half done."""

    async def transact(self, work: Callable[[sqlite3.Connection], R], kind: Kind = "IMMEDIATE") -> R:
        """What `work` gives, called in the connection's thread within a transaction of its own.

            count = await db.transact(lambda db: db.execute("DELETE FROM events").rowcount)

        If `work` raises, or the file can't be written, nothing is stored. Whoever is cancelled while it waits leaves
        the transaction to its end; what is asked of the connection next comes after it. A DEFERRED one takes no lock
        before it writes.
        """
        return cast("R", await self._execute(self._in_a_transaction, work, kind))

    def _in_a_transaction(self, work: Callable[[sqlite3.Connection], R], kind: Kind) -> R:
        db = self._conn
        db.execute(f"BEGIN {kind}")
        try:
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # A full disk has ended it already.
                db.execute("ROLLBACK")
            raise
        return result


async def connect(database: Path | str, busy_seconds: float) -> Connection:
    """A connection in autocommit mode, that waits for `busy_seconds` for another writer to end.

    `database` is a path, or an address of SQLite's, `file://…?mode=ro`.
    """
    options: dict[str, Any] = {"isolation_level": None, "timeout": busy_seconds, "uri": isinstance(database, str)}
    db = Connection(partial(sqlite3.connect, database, **options), _ROWS_FETCHED_AT_ONCE)
    await db
    return db
