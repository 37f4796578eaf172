"""Guard of a store's file: checks that the file at the path is still the one being written, and complete."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from simba_actors.errors import StoreDamagedError
from simba_actors.store.connection import unreachable


class FileGuard:
    """Compares a store's files with those that a connection has open.

    SQLite keeps writing to a file after it was deleted, and everything written there is lost when the process ends. The
    files are only looked at, never opened: closing one would release SQLite's locks on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        real = path.resolve()  # Where a link leads: SQLite keeps the log beside the file itself.
        self._log = real.with_name(f"{real.name}-wal")
        found = path.stat()
        self._identity, self._size = _identity(found), found.st_size
        self._log_identity: tuple[int, int] | None = None

    def check(self, db: sqlite3.Connection) -> None:
        """Raise StoreDamagedError if a file of the store that `db` has open was deleted, replaced or cut short.

        Raise StoreError if the directory can't be read. Must not be called within a transaction.
        """
        found = self._stat(self._path)
        if found is None:
            raise StoreDamagedError(
                f"{self._path} was deleted or moved while a run writes it: put it back, and the run continues"
            )
        if _identity(found) != self._identity:
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
        self._check_log(db)

    def _check_log(self, db: sqlite3.Connection) -> None:
        log = self._stat(self._log)
        if log is not None and self._log_identity in (None, _identity(log)):
            self._log_identity = _identity(log)
            return
        if self._log_identity is None:
            return  # Nothing was written yet.
        saved = "another one took its place"
        if log is None:
            # The deleted log is still open here. What it holds is moved into the store's file while that is possible.
            busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            saved = "its last commits may be lost" if busy else "nothing is lost so far"
        raise StoreDamagedError(
            f"{self._log} was deleted while a run writes it ({saved}): stop the run and start it again"
        )

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
    """Pages that are in the write-ahead log alone are not in the file yet."""
    (pages,), (size,) = db.execute("PRAGMA page_count").fetchone(), db.execute("PRAGMA page_size").fetchone()
    return pages * size
