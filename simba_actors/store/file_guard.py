"""Whether the file at a store's path is still the one that is written, and whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from simba_actors.errors import StoreDamagedError


class Presence:
    """Looks at the file before each commit: a deleted one would take what is written, and give nothing back.

    It is looked at without being opened, since closing it would let go of SQLite's own locks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        found = path.stat()
        self._identity, self._size = (found.st_dev, found.st_ino), found.st_size

    def check(self, db: sqlite3.Connection) -> None:
        """Raises StoreDamagedError if the file is gone, is another one, or was cut short; `db` is connected to it."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            raise StoreDamagedError(
                f"{self._path} was deleted or moved while a run writes it: put it back, and the run goes on"
            ) from None
        if (found.st_dev, found.st_ino) != self._identity:
            raise StoreDamagedError(
                f"{self._path} was replaced by another file while a run writes it: put the first one back, and the run "
                "goes on"
            )
        if found.st_size < min(self._size, _size_of_all_pages(db)):
            raise StoreDamagedError(
                f"{self._path} was cut short while a run writes it: stop the run, and start it again with the file as "
                "it was, if there is a copy"
            )
        self._size = found.st_size


def _size_of_all_pages(db: sqlite3.Connection) -> int:
    """Those that are in the write-ahead log alone are not in the file yet."""
    (pages,), (size,) = db.execute("PRAGMA page_count").fetchone(), db.execute("PRAGMA page_size").fetchone()
    return pages * size
