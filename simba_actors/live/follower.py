"""Following a channel of a store: reading what it serves, at almost no cost while nothing new is published."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from simba_actors.errors import StoreError
from simba_actors.programs import Configuration
from simba_actors.publishing.publications import (
    Publication,
    Served,
    configuration_of,
    published_in_process,
    served,
    unreadable,
    versions,
)
from simba_actors.store.connection import data_version, real_path, translate_errors, translated, unreachable
from simba_actors.store.opening import connect_for_reading, is_immutable

POLL_SECONDS = 0.25
"""Seconds between checks of the file. What another process publishes must be seen within a second."""

OPEN_FILES = 100
"""Number of followers of a process that keep their file open between checks. Each needs two descriptors, of the 1,024
that a process usually has. Further followers open the file for each check, which takes milliseconds in a thread."""

BUSY_SECONDS = 0.5
"""Seconds that a `read` waits while another process recovers or closes the file, which locks it for a moment."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Snapshot of what a channel serves."""

    served: Served = field(default_factory=Served)
    """The publications that are served; empty before the first one."""

    configurations: dict[int, Configuration] = field(default_factory=dict[int, Configuration])
    """Their configurations, by version."""


class Follower:
    """Follows one channel of a store, which may not exist yet or may be damaged. Never changes or locks the file.

        if follower.is_due() and follower.is_stale():
            snapshot = follower.read()
            follower.acknowledge()

    Between checks the file is not touched. A check reads `PRAGMA data_version`, which says whether another
    connection has committed without reading a table: https://sqlite.org/pragma.html#pragma_data_version. The methods
    must not be called from two threads at a time, except for `is_due` and `has_local_publication`.
    """

    def __init__(self, store: Path, channel: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._db: sqlite3.Connection | None = None  # First, since `__del__` needs it.
        self._path = store
        self._name = str(store)
        self._resolved = str(real_path(store))
        self._channel = channel
        self._clock = clock
        self._immutable = False
        self._identity: tuple[int, ...] | None = None
        self._data_version = -1
        self._publications_seen = self._publications_read = -1
        self._next_check = 0.0
        self._snapshot = Snapshot()

    def __del__(self) -> None:
        self.close()

    def is_due(self) -> bool:
        """Return whether to poll now: `POLL_SECONDS` after the last poll, or after a local publication."""
        return self._clock() >= self._next_check or self.has_local_publication()

    def has_local_publication(self) -> bool:
        """Return whether this process has published something that is not acknowledged yet."""
        return self._publications_seen != published_in_process(self._resolved)

    def is_stale(self) -> bool:
        """Check whether there may be something new to `read`. Takes microseconds and never waits for a lock."""
        self._next_check = self._clock() + POLL_SECONDS
        if self._db is None or self.has_local_publication():
            return True
        try:
            if self._identity != self._identify():
                return True
            return not self._immutable and data_version(self._connected()) != self._data_version
        except Exception:  # noqa: BLE001 - `read` meets the same error, and says what it is
            return True

    def read(self) -> Snapshot:
        """Read what the channel serves.

        Raises:
            StoreError: The file cannot be read; the last snapshot is still good.
        """
        self._publications_read = published_in_process(self._resolved)
        try:
            self._connect()
            db = self._connected()
            db.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}")
            self._data_version = data_version(db)
            self._snapshot = self._read(db)
            db.execute("PRAGMA busy_timeout = 0")  # `is_stale` is asked on the event loop.
            if id(self) not in _open:
                self.close()
        except sqlite3.Error as error:
            self.close()
            raise translated(error, self._path) from error
        except BaseException:
            self.close()
            raise
        return self._snapshot

    def acknowledge(self) -> None:
        """Note that the last `read` is in effect or has failed, so that no further call waits for it."""
        self._publications_seen = self._publications_read

    def earlier(self, version: int) -> Iterator[tuple[Publication, Configuration]]:
        """Yield the versions that all calls got before `version`, newest first, without pruned ones.

        Raises StoreError as `read` does.
        """
        db = self._connected()
        with translate_errors(self._path):
            for publication in reversed(versions(db, self._channel)):
                if publication.version < version and publication.kind != "canary" and not publication.pruned:
                    yield publication, _configuration(db, publication)

    def close(self) -> None:
        """Close the file. The next `read` opens it again."""
        db, self._db = self._db, None
        _open.discard(id(self))
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def abandon(self) -> None:
        """Forget the connection without closing it, as a child process must do with one of its parent."""
        db, self._db = self._db, None
        _open.discard(id(self))
        if db is not None:
            _abandoned.append(db)

    def _connect(self) -> None:
        if self._db is not None and self._identity == self._identify():
            return
        self.close()
        self._resolved = str(real_path(self._path))
        self._immutable = is_immutable(self._path)
        self._identity = self._identify()
        self._db = connect_for_reading(self._path, BUSY_SECONDS)
        if len(_open) < OPEN_FILES:
            _open.add(id(self))

    def _identify(self) -> tuple[int, ...]:
        """Return values that change when another file takes the place of this one, also behind a symbolic link.

        An immutable connection never notices writes, so its values also include the file's size and time, and whether
        there is a write-ahead log.
        """
        try:
            status = os.stat(self._name)  # noqa: PTH116 - several times as fast as the path's own
        except FileNotFoundError as error:
            raise StoreError(
                f"there is no store {self._path}: an optimizer or a publication creates it, unless the path is wrong"
            ) from error
        except OSError as error:
            raise unreachable(error, self._path) from error
        if status.st_size == 0:
            raise StoreError(f"{self._path} is empty")
        if not self._immutable:
            return status.st_dev, status.st_ino
        has_log = os.path.exists(f"{self._resolved}-wal")  # noqa: PTH110 - as above
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, has_log

    def _read(self, db: sqlite3.Connection) -> Snapshot:
        now_served = served(db, self._channel)
        known = {p.digest: self._snapshot.configurations[p.version] for p in self._snapshot.served.publications}
        configurations = {
            publication.version: known.get(publication.digest) or _configuration(db, publication)
            for publication in now_served.publications
        }
        return Snapshot(now_served, configurations)

    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            raise AssertionError("the follower connects before it reads")
        return self._db


def _configuration(db: sqlite3.Connection, publication: Publication) -> Configuration:
    stored = configuration_of(db, publication)
    try:
        return Configuration.from_json(dict(stored))
    except RecursionError as error:
        raise unreadable(db, publication, error) from error


_open: set[int] = set()
"""Ids of the followers that keep their file open."""

_abandoned: list[sqlite3.Connection] = []
"""Connections of a parent process. Kept, so that garbage collection does not close them in the child."""
