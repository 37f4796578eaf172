"""Following a channel of a store: reading what it serves, at next to no cost while nothing new is published."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from simba_actors.errors import NotAStoreError, StoreDamagedError, StoreError, StoreVersionError
from simba_actors.programs import Configuration
from simba_actors.publishing.notifications import name_of, publications_in
from simba_actors.publishing.publications import CONFIGURATION, OF_CHANNEL, SERVED, Publication, Served
from simba_actors.store.encoding import loads
from simba_actors.store.error_translation import told_of, translated
from simba_actors.store.schema import APPLICATION_ID, VERSION

POLL_SECONDS = 0.25
"""Seconds between looks at the file. What another process publishes must be seen within a second."""

BUSY_SECONDS = 0.5
"""Seconds that a `read` waits while another process recovers or closes the file, which locks it for a moment."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a channel serves at one moment."""

    served: Served = field(default_factory=Served)
    """The publications that are served; empty before the first one."""

    configurations: dict[int, Configuration] = field(default_factory=dict[int, Configuration])
    """Their configurations, by version."""


class Follower:
    """Follows one channel of a store, which may not exist yet or may be damaged. Never changes or locks the file.

        if follower.is_due() and follower.is_stale():
            snapshot = follower.read()
            follower.acknowledge()

    Between looks the file is not touched. A look asks SQLite's `PRAGMA data_version`, which tells whether another
    connection has committed without reading a table: https://sqlite.org/pragma.html#pragma_data_version. The methods
    must not be called from two threads at a time, except for `is_due` and `has_local_publication`.
    """

    def __init__(self, store: Path, channel: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._db: sqlite3.Connection | None = None  # First, since `__del__` needs it.
        self._path = store.resolve()
        self._name = name_of(store)
        self._channel = channel
        self._clock = clock
        self._immutable = False
        self._identity: tuple[int, ...] | None = None
        self._data_version = -1
        self._publications_seen = self._publications_read = -1
        self._next_look = 0.0
        self._snapshot = Snapshot()

    def __del__(self) -> None:
        self.close()

    def is_due(self) -> bool:
        """Return whether it is time for a look: `POLL_SECONDS` after the last one, or after a local publication."""
        return self._clock() >= self._next_look or self.has_local_publication()

    def has_local_publication(self) -> bool:
        """Return whether this process has published something that was not acknowledged yet."""
        return self._publications_seen != publications_in(self._name)

    def is_stale(self) -> bool:
        """Look whether there may be something new to `read`. Takes microseconds and never waits for a lock."""
        self._next_look = self._clock() + POLL_SECONDS
        if self._db is None or self.has_local_publication():
            return True
        try:
            if self._identity != self._identify():
                return True
            return not self._immutable and self._one("PRAGMA data_version") != self._data_version
        except Exception:  # noqa: BLE001 - `read` meets the same error, and says what it is
            return True

    def read(self) -> Snapshot:
        """Read what the channel serves.

        Raises:
            StoreError: The file cannot be read; the last snapshot is still good.
        """
        self._publications_read = publications_in(self._name)
        try:
            self._connect()
            self._rows(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}", [])
            self._check_header()
            self._data_version = self._one("PRAGMA data_version")
            self._snapshot = self._read()
            self._rows("PRAGMA busy_timeout = 0", [])  # `is_stale` is asked on the event loop.
        except sqlite3.Error as error:
            self.close()
            raise translated(error, self._path) from error
        except BaseException:
            self.close()
            raise
        return self._snapshot

    def acknowledge(self) -> None:
        """Note that the last `read` is in force, or cannot be had: no call needs to wait for it any more."""
        self._publications_seen = self._publications_read

    def earlier(self, version: int) -> Iterator[tuple[Publication, Configuration]]:
        """Yield what all calls were served before `version`, newest first, without pruned versions.

        Raises StoreError as `read` does.
        """
        with told_of(self._path):
            rows = self._rows(OF_CHANNEL, [self._channel])
            for publication in reversed([Publication.of_row(row) for row in rows]):
                if publication.version < version and publication.kind != "canary" and not publication.pruned:
                    yield publication, self._configuration(publication.digest)

    def close(self) -> None:
        """Close the file. The next `read` opens it again."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def abandon(self) -> None:
        """Forget the connection without closing it, as a child process must do with one of its parent."""
        db, self._db = self._db, None
        if db is not None:
            _abandoned.append(db)

    def _connect(self) -> None:
        if self._db is not None and self._identity == self._identify():
            return
        self.close()
        self._immutable = _is_at_rest_on_read_only_volume(self._path)
        self._identity = self._identify()
        mode = "immutable=1" if self._immutable else "mode=ro"
        self._db = sqlite3.connect(
            f"{self._path.as_uri()}?{mode}", uri=True, timeout=0, check_same_thread=False, isolation_level=None
        )

    def _check_header(self) -> None:
        application, version = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        if application != APPLICATION_ID:
            raise NotAStoreError(f"{self._path} is not a store of simba_actors: give the path of one")
        if version > VERSION:
            raise StoreVersionError(f"{self._path} was written by a newer simba_actors: upgrade this one")

    def _identify(self) -> tuple[int, ...]:
        """Return what tells this file from another that takes its place.

        An immutable connection never notices changes. While there is one, a write shows by the file's size and time, or
        by a write-ahead log that appears.
        """
        try:
            status = os.stat(self._name)  # noqa: PTH116 - several times as fast as the path's own
        except OSError as error:
            raise StoreError(f"{self._path} can't be read: {error.strerror}") from error
        if status.st_size == 0:
            raise StoreError(f"{self._path} is empty")
        if not self._immutable:
            return status.st_dev, status.st_ino
        has_log = os.path.exists(f"{self._name}-wal")  # noqa: PTH110 - as above
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, has_log

    def _read(self) -> Snapshot:
        if not self._rows("SELECT 1 FROM sqlite_schema WHERE name = 'publications'", []):
            return Snapshot()
        served = Served.of_rows(self._rows(SERVED, {"channel": self._channel}))
        for publication in _publications(served):
            self._check(publication)
        known = {p.digest: self._snapshot.configurations[p.version] for p in _publications(self._snapshot.served)}
        configurations = {
            p.version: known.get(p.digest) or self._configuration(p.digest) for p in _publications(served)
        }
        return Snapshot(served, configurations)

    def _check(self, publication: Publication) -> None:
        """Raise StoreDamagedError if a value is not of its column's type, which SQLite does not enforce."""
        share: Any = publication.share
        if isinstance(cast("Any", publication.version), int) and isinstance(share, int | float | None):
            return
        raise StoreDamagedError(
            f"{self._path} is damaged: channel {self._channel!r} has version={publication.version!r:.80} with "
            f"share={share!r:.80}; publish again"
        )

    def _configuration(self, digest: str) -> Configuration:
        rows = self._rows(CONFIGURATION, [digest])
        try:
            stored: Any = loads(rows[0][0])
            return Configuration.from_json(dict(stored))
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise StoreDamagedError(
                f"{self._path} is damaged: the configuration {digest:.12} can't be read ({error!r}); publish it again"
            ) from error

    def _one(self, sql: str) -> Any:
        return self._rows(sql, [])[0][0]

    def _rows(self, sql: str, parameters: Any) -> list[Any]:
        if self._db is None:
            raise AssertionError("the follower connects before it asks")
        return self._db.execute(sql, parameters).fetchall()


_abandoned: list[sqlite3.Connection] = []
"""Connections of a parent process. Kept, so that garbage collection does not close them in the child."""


def _is_at_rest_on_read_only_volume(path: Path) -> bool:
    """Return whether SQLite can read the file only as immutable.

    A store is in write-ahead mode. Reading it needs the `-shm` file beside it, which cannot be made on a read-only
    volume. Without a `-wal` file nobody is writing.
    """
    return not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()


def _publications(served: Served) -> list[Publication]:
    return [p for p in (served.current, served.canary) if p is not None]
