"""Connections to a store's file: whole transactions, errors that name the remedy, and a guard of the file."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

import aiosqlite
from aiosqlite import core

from simba_actors.errors import (
    NotAStoreError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
)
from simba_actors.runtime.event_loop import running_loop
from simba_actors.runtime.threads import THREAD_REMEDY

P = ParamSpec("P")
R = TypeVar("R")

TransactionKind = Literal["IMMEDIATE", "DEFERRED"]

ROOM_BYTES = 1 << 20
"""A disk with less free space than this is full: SQLite reports some of its failed writes as plain I/O errors."""

OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
"""Numbers of the errors that mean that no more files can be opened."""

FILES_REMEDY = "raise the limit of its open files (`ulimit -n`), or close some of them"

THREAD_NAME = "simba_actors store"

_ROWS_FETCHED_AT_ONCE = 64
"""aiosqlite's default."""


class Connection(aiosqlite.Connection):
    """aiosqlite's connection with transactions that cannot be left half done.

    Its thread is a daemon, so a connection that is never closed does not keep the process from ending. The loop may be
    closed at any time: answers to it are then dropped, and the file is still closed. The thread remembers what it did
    last, so that must not refer to the connection, which could otherwise not be dropped.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        self._opened: list[sqlite3.Connection] = []
        opened = self._opened  # Without `self`, so that no cycle keeps a connection that is dropped.

        def connector_in_thread() -> sqlite3.Connection:
            opened.append(connector())
            return opened[0]

        super().__init__(connector_in_thread, _ROWS_FETCHED_AT_ONCE)
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=_work, args=(cast("Any", self._tx), self._stopped), name=THREAD_NAME, daemon=True
        )

    def __del__(self) -> None:
        if self._loop.is_closed():  # Nobody could close it in time: an async generator that was dropped, say.
            self.stop()
        else:
            super().__del__()

    def stop(self) -> asyncio.Future[Any] | None:
        """Close the file and end the thread, after all work that was requested before.

        aiosqlite alone would leave the file open if the task that connects was cancelled meanwhile.
        """
        self._tx.put_nowait((None, partial(_close_all, self._opened)))
        stopping = cast("Any", super()).stop()
        self._stopped.set()
        return stopping

    async def transact(
        self,
        work: Callable[[sqlite3.Connection], R],
        kind: TransactionKind = "IMMEDIATE",
        *,
        check: Callable[[sqlite3.Connection], None] | None = None,
    ) -> R:
        """Call `work` in the connection's thread, within a transaction of its own, and return its value.

            count = await db.transact(lambda db: db.execute("DELETE FROM events").rowcount)

        If `work` raises, or the file can't be written, nothing is stored. Cancelling this call does not interrupt the
        transaction: it ends first, then the connection's next work runs. A DEFERRED transaction takes no lock before
        it writes. `check` is called before the transaction begins; if it raises, there is none.
        """
        return cast("R", await self._execute(_in_a_transaction, self._conn, work, kind, check))

    async def read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call `query(db, *args, **kwargs)` in the connection's thread, on one unchanging state of the file."""
        return await self.transact(lambda db: query(db, *args, **kwargs), "DEFERRED")

    async def run_in_thread(self, work: Callable[[], R]) -> R:
        """Call `work` in the connection's thread, after all work that was requested before."""
        return cast("R", await self._execute(work))


def _in_a_transaction(
    db: sqlite3.Connection,
    work: Callable[[sqlite3.Connection], R],
    kind: TransactionKind,
    check: Callable[[sqlite3.Connection], None] | None,
) -> R:
    if check is not None:
        check(db)
    db.execute(f"BEGIN {kind}")
    try:
        result = work(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # A full disk has rolled it back already.
            db.execute("ROLLBACK")
        raise
    return result


def _work(tx: SimpleQueue[Any], stopped: threading.Event) -> None:
    """Do the work of a connection's thread until it is stopped, even if the loop no longer takes its answers."""
    while True:
        try:
            cast("Any", core)._connection_worker_thread(tx)
        except RuntimeError:  # The loop that asked is closed.
            if not (stopped.is_set() and tx.empty()):
                continue
        return


def _close_all(connections: list[sqlite3.Connection]) -> None:
    for connection in connections:
        connection.close()


async def connect(database: Path | str, busy_seconds: float) -> Connection:
    """Connect in autocommit mode. A write waits up to `busy_seconds` for another writer to end.

    `database` is a path, or one of SQLite's URIs ("file://…?mode=ro").

    Raises:
        NoEventLoopError: There is no asyncio event loop.
    """
    running_loop("a store")
    options: dict[str, Any] = {"isolation_level": None, "timeout": busy_seconds, "uri": isinstance(database, str)}
    db = Connection(partial(sqlite3.connect, database, **options))
    try:
        await db
    except RuntimeError as error:
        raise StoreError(
            f"{database} can't be opened, since the process can't start a thread: {THREAD_REMEDY}"
        ) from error
    return db


@contextmanager
def translate_errors(path: Path) -> Generator[None]:
    """Raise SQLite's errors, and the file system's, as a StoreError about `path`."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error
    except OSError as error:
        raise unreachable(error, path) from error


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    """Return the StoreError that says what `error` means for `path` and what to do about it."""
    text, name = str(error), getattr(error, "sqlite_errorname", "")
    if "locked" in text or "busy" in text:
        return StoreLockedError(f"{path} is locked by another writer ({text}): end it, or try again when it is done")
    if "full" in text or (name.startswith("SQLITE_IOERR") and _is_full(path)):
        return StoreFullError(f"{path} can't grow ({text}): make room on its disk, then resume the run")
    if "readonly" in text or "read-only" in text:
        return StoreReadOnlyError(f"{path} can't be written ({text}): check its permissions and its directory's")
    if "not a database" in text:
        return NotAStoreError(f"{path} is not an SQLite database: give another path; the file was not changed")
    if name.startswith("SQLITE_IOERR") and name != "SQLITE_IOERR_SHORT_READ":
        return StoreError(f"{path} can't be read or written ({text}): check its disk")
    if "malformed" in text or "disk I/O" in text or "short read" in text:
        return StoreDamagedError(f"{path} is damaged ({text}): restore it from a copy, or start with another path")
    if "unable to open" in text and _is_out_of_files():
        return StoreError(f"{path} can't be opened, since the process has too many files open: {FILES_REMEDY}")
    if "unable to open" in text:
        return StoreError(f"{path} can't be opened ({text}): check that its directory exists and may be written")
    return StoreError(f"{path} can't be used: {text}")


def unreachable(error: OSError, path: Path) -> StoreError:
    """Return the StoreError for a file whose directory or disk can't be read."""
    if error.errno in OUT_OF_FILES:
        return StoreError(f"{path} can't be opened ({error.strerror}): {FILES_REMEDY}")
    return StoreError(f"{path} can't be reached ({error.strerror}): check its directory and its disk")


def _is_out_of_files() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in OUT_OF_FILES
    return False


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < ROOM_BYTES
    except OSError:
        return False


def path_of(db: sqlite3.Connection) -> str:
    """Return the path of the file that `db` is connected to."""
    return str(db.execute("PRAGMA database_list").fetchone()[2]) or "the store"


def data_version(db: sqlite3.Connection) -> int:
    """Return a number that changes when another connection has changed the file."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def real_path(path: Path) -> Path:
    """Return where a link leads, as `Path.resolve` does, but without an error for a link that leads to itself."""
    return Path(os.path.realpath(path))


class LogDeletedError(StoreDamagedError):
    """The write-ahead log was deleted, but all it held is saved. The store can be written once it is opened again."""


class FileGuard:
    """Compares a store's files with those that a connection has open.

    SQLite keeps writing to a file after it was deleted, and everything written there is lost when the process ends. The
    files are only looked at, never opened: closing one would release SQLite's locks on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        real = real_path(path)  # Where a link leads: SQLite keeps the log beside the file itself.
        self._log = real.with_name(f"{real.name}-wal")
        self._index = real.with_name(f"{real.name}-shm")
        found = path.stat()
        self.identity, self._size = _identity(found), found.st_size
        """Device and inode of the store's file."""
        self._log_identity: tuple[int, int] | None = None
        index = self._stat(self._index)
        self._index_identity = None if index is None else _identity(index)

    def check(self, db: sqlite3.Connection) -> None:
        """Check that the files of the store that `db` has open are still there. Call it outside of transactions.

        Raises:
            LogDeletedError: The log was deleted. Nothing is lost.
            StoreDamagedError: A file was deleted, replaced or cut short.
            StoreError: The directory can't be read.
        """
        found = self._stat(self._path)
        if found is None:
            raise StoreDamagedError(
                f"{self._path} was deleted or moved while a run writes it: put it back, and the run continues"
            )
        if _identity(found) != self.identity:
            raise StoreDamagedError(
                f"{self._path} was replaced by another file while a run writes it: put the first one back, and the run "
                "continues"
            )
        if found.st_size < min(self._size, _size_of_all_pages(db)):
            raise StoreDamagedError(
                f"{self._path} was cut short while a run writes it: stop the run, and start it again with the file as "
                "it was, if there is a copy"
            )
        self._size = found.st_size
        self.check_index()
        self._check_log(db)

    def check_index(self) -> None:
        """Check that no other process has replaced the index of the log, which this process has open.

        If the index was only deleted, the processes that have it open still share it.

        Raises:
            StoreDamagedError: The index was replaced. Processes with different indexes don't see each other's locks.
        """
        index = self._stat(self._index)
        if index is not None and self._index_identity not in (None, _identity(index)):
            raise StoreDamagedError(
                f"{self._index} was deleted while a run writes the store, and another process has made a new one: end "
                "the processes that have the store open, and start them again"
            )

    def _check_log(self, db: sqlite3.Connection) -> None:
        log = self._stat(self._log)
        if log is not None and self._log_identity in (None, _identity(log)):
            self._log_identity = _identity(log)
            return
        if self._log_identity is None:
            return  # Nothing was written yet.
        if log is not None:
            raise StoreDamagedError(
                f"{self._log} was deleted while a run writes it, and another one took its place: stop the run and "
                "start it again"
            )
        # The deleted log is still open here. What it holds is moved into the store's file while that is possible.
        busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreDamagedError(
                f"{self._log} was deleted while a run writes it, and its last commits can't be saved while another "
                "process reads the store: end that one, and the run continues"
            )
        raise LogDeletedError(f"{self._log} was deleted while a run writes it; nothing is lost")

    def _stat(self, path: Path) -> os.stat_result | None:
        try:
            return path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreachable(error, path) from error


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _size_of_all_pages(db: sqlite3.Connection) -> int:
    """Return the size of the store in bytes, including pages that are in the write-ahead log alone."""
    (pages,), (size,) = db.execute("PRAGMA page_count").fetchone(), db.execute("PRAGMA page_size").fetchone()
    return pages * size
