"""Seeing what is published, at next to no cost while nothing is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simba_actors.errors import NotAStoreError, StoreDamagedError, StoreError, StoreVersionError
from simba_actors.programs import Configuration
from simba_actors.publishing.notifications import name_of, publications_in
from simba_actors.publishing.publications import CONFIGURATION, OF_CHANNEL, SERVED, Publication, Served
from simba_actors.store.encoding import loads
from simba_actors.store.error_translation import told_of, translated
from simba_actors.store.schema import APPLICATION_ID, VERSION

POLL_SECONDS = 0.25
"""How often another process's publications are looked for: they are to be seen within a second."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a channel serves, with the configurations by version."""

    served: Served = field(default_factory=Served)
    configurations: dict[int, Configuration] = field(default_factory=dict[int, Configuration])


class Follower:
    """Follows one channel of a store, which may not exist yet, may be damaged, and is never changed or held up.

        if follower.is_due() and follower.is_stale():
            offer = follower.read()

    Between looks nothing is asked of the file. A look asks SQLite's `PRAGMA data_version`, which tells of other
    connections' commits without reading a table: https://sqlite.org/pragma.html#pragma_data_version. None of the
    methods may be called from two threads at a time, but for `is_due` and `published_here`.
    """

    def __init__(self, store: Path, channel: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = store.resolve()
        self._name = name_of(store)
        self._channel = channel
        self._clock = clock
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int, int] | None = None
        self._read_at = -1
        self._publications_seen = self._publications_read = -1
        self._next_look = 0.0
        self._offer = Offer()

    def is_due(self) -> bool:
        """Whether to look: `POLL_SECONDS` after the last time, or where this process has published."""
        return self._clock() >= self._next_look or self.published_here()

    def published_here(self) -> bool:
        """Whether this process has published something that was not `taken_up`."""
        return self._publications_seen != publications_in(self._name)

    def is_stale(self) -> bool:
        """Looks whether there may be something to `read`. Takes microseconds, and never waits for a lock."""
        self._next_look = self._clock() + POLL_SECONDS
        if self._db is None or self.published_here():
            return True
        try:
            return self._identity != self._identify() or self._one("PRAGMA data_version") != self._read_at
        except (sqlite3.Error, StoreError):
            return True

    def read(self) -> Offer:
        """What the channel serves.

        Raises:
            StoreError: The file can't be read; what was read before still counts.
        """
        self._publications_read = publications_in(self._name)
        try:
            self._connect()
            self._read_at = self._one("PRAGMA data_version")
            self._offer = self._read()
        except sqlite3.Error as error:
            self.close()
            raise translated(error, self._path) from error
        except BaseException:
            self.close()
            raise
        return self._offer

    def taken_up(self) -> None:
        """What was last `read` is in force: from now on nobody needs to wait for it."""
        self._publications_seen = self._publications_read

    def close(self) -> None:
        """Lets go of the file. The next `read` opens it again."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _connect(self) -> None:
        identity = self._identify()
        if self._db is not None and identity == self._identity:
            return
        self.close()
        self._identity = identity
        self._db = sqlite3.connect(
            f"{self._path.as_uri()}?mode=ro", uri=True, timeout=0, check_same_thread=False, isolation_level=None
        )
        application, version = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        if application != APPLICATION_ID:
            raise NotAStoreError(f"{self._path} is no store of simba_actors")
        if version > VERSION:
            raise StoreVersionError(f"{self._path} was written by a newer simba_actors: upgrade")

    def _identify(self) -> tuple[int, int, int]:
        """Which file is at the path, since another may have taken its place, and which process asks, since SQLite's
        connections must not be used beyond a fork."""
        try:
            status = os.stat(self._name)  # noqa: PTH116 - several times as fast as the path's own
        except OSError as error:
            raise StoreError(f"{self._path} can't be read: {error.strerror}") from error
        if status.st_size == 0:
            raise StoreError(f"{self._path} is empty")
        return status.st_dev, status.st_ino, os.getpid()

    def _read(self) -> Offer:
        if not self._rows("SELECT 1 FROM sqlite_schema WHERE name = 'publications'", []):
            return Offer()
        served = Served.of_rows(self._rows(SERVED, {"channel": self._channel}))
        known = {p.digest: self._offer.configurations[p.version] for p in _publications(self._offer.served)}
        configurations = {
            p.version: known.get(p.digest) or self._configuration(p.digest) for p in _publications(served)
        }
        return Offer(served, configurations)

    def earlier(self, version: int) -> Iterator[tuple[Publication, Configuration]]:
        """What all calls were served before `version`, the newest first, as far as it was not pruned.

        Raises StoreError as `read` does.
        """
        with told_of(self._path):
            rows = self._rows(OF_CHANNEL, [self._channel])
            for publication in reversed([Publication.of_row(row) for row in rows]):
                if publication.version < version and publication.kind != "canary" and not publication.pruned:
                    yield publication, self._configuration(publication.digest)

    def _configuration(self, digest: str) -> Configuration:
        rows = self._rows(CONFIGURATION, [digest])
        try:
            stored: Any = loads(rows[0][0])
            return Configuration.from_json(dict(stored))
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise StoreDamagedError(
                f"{self._path} is damaged: what was published as {digest:.12} can't be read: {error!r}; publish again"
            ) from error

    def _one(self, sql: str, *parameters: Any) -> Any:
        return self._rows(sql, parameters)[0][0]

    def _rows(self, sql: str, parameters: Any) -> list[Any]:
        if self._db is None:
            raise AssertionError("the follower is connected before it asks")
        return self._db.execute(sql, parameters).fetchall()


def _publications(served: Served) -> list[Publication]:
    return [p for p in (served.current, served.canary) if p is not None]
