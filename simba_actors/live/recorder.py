"""Writing what live calls left, in a thread of its own: no request waits for it, and none fails of it."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from simba_actors.live.calls import CallId
from simba_actors.lm.secrets import Secrets
from simba_actors.publishing.canary import settle
from simba_actors.publishing.notifications import tell_followers
from simba_actors.publishing.online_examples import ADD, BOUND, OnlineExample
from simba_actors.publishing.publications import Publication
from simba_actors.store.schema import APPLICATION_ID, VERSION

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Entries that wait for the file at most. Later ones are dropped."""

AT_ONCE = 500
"""Entries in one transaction."""

RETRY_SECONDS = 1.0

_REPORT = "INSERT OR IGNORE INTO reports (channel, canary, call_id, version, score, time) VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Reported:
    """A call's score."""

    call: CallId
    score: float


Work: TypeAlias = Callable[[], Sequence[Reported | OnlineExample]]
"""Made in the thread: it may run a metric, or turn values into JSON."""


class Recorder:
    """Stores scores and examples of one channel, and has the canary settled when its scores say enough.

    Args:
        store: The store's file, which is never made here.
        channel: The channel of the calls.
        keep_examples: How many examples the store keeps at most.
    """

    def __init__(self, store: Path, channel: str, keep_examples: int) -> None:
        self._store = store
        self._channel = channel
        self._keep_examples = keep_examples
        self._work: queue.Queue[Work | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closing = threading.Event()
        self._trouble: str | None = None

    def put(self, work: Work) -> None:
        """Stores what `work()` gives, soon. Never waits."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._closing.clear()
                self._thread = threading.Thread(target=self._record, name="simba_actors recorder", daemon=True)
                self._thread.start()
        try:
            self._work.put_nowait(work)
        except queue.Full:
            self._say(f"{MOST_WAITING} scores of channel {self._channel!r} wait for {self._store}; more are dropped")

    def close(self) -> None:
        """Waits until all is stored, or can't be."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._closing.set()
            self._work.put(None)
            thread.join()

    def _record(self) -> None:
        over = False
        while not over:
            taken = self._take()
            over = None in taken
            entries = [entry for work in taken if work is not None for entry in self._done(work)]
            while entries and not self._stored(entries) and not self._closing.wait(RETRY_SECONDS):
                pass

    def _take(self) -> list[Work | None]:
        taken = [self._work.get()]
        while len(taken) < AT_ONCE and not self._work.empty():
            taken.append(self._work.get())
        return taken

    def _done(self, work: Work) -> Sequence[Reported | OnlineExample]:
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - a metric of the user's raised; requests go on
            self._say(f"a call of channel {self._channel!r} got no score: {Secrets().describe(error)}")
            return ()

    def _stored(self, entries: Sequence[Reported | OnlineExample]) -> bool:
        try:
            published = self._store_all(entries)
        except sqlite3.Error as error:
            self._say(f"scores of channel {self._channel!r} could not be stored in {self._store} yet: {error}")
            return False
        self._trouble = None
        if published is not None:
            logger.info("channel %r: version %d: %s", self._channel, published.version, published.reason)
            tell_followers(self._store)
        return True

    def _store_all(self, entries: Sequence[Reported | OnlineExample]) -> Publication | None:
        now = time.time()
        reports = [
            (self._channel, e.call.canary, str(e.call), e.call.version, e.score, now)
            for e in entries
            if isinstance(e, Reported) and e.call.canary
        ]
        examples = [e.adding(self._channel) for e in entries if isinstance(e, OnlineExample)]
        if not reports and not examples:
            return None
        db = sqlite3.connect(f"{self._store.resolve().as_uri()}?mode=rw", uri=True, timeout=5.0, isolation_level=None)
        try:
            _recognize(db)
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_REPORT, reports)
            db.executemany(ADD, examples)
            if examples:
                db.execute(BOUND, [self._channel, self._channel, self._keep_examples - 1])
            published = settle(db, self._channel) if reports else None
            db.execute("COMMIT")
        finally:
            db.close()
        return published

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("%s", trouble)


def _recognize(db: sqlite3.Connection) -> None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if (application, version) != (APPLICATION_ID, VERSION):
        raise sqlite3.DatabaseError("it is no store of this version of simba_actors")
