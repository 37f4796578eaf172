"""Writing to the store: whole transactions by the one owner of a run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from simba_actors.errors import FingerprintMismatchError, LeaseLostError
from simba_actors.events import Event
from simba_actors.store.connection import Connection
from simba_actors.store.encoding import dumps, loads
from simba_actors.store.error_translation import told_of
from simba_actors.store.file_guard import Presence
from simba_actors.store.opening import BUSY_SECONDS, open_for_writing
from simba_actors.store.ownership import LEASE_SECONDS, Owner, check_free
from simba_actors.store.reading import LAST_EVENT, Reader
from simba_actors.store.records import NewRun, Run, Write
from simba_actors.store.statements import statements

_RENEW_LEASE = "UPDATE runs SET updated = ?, lease_until = ? WHERE run_id = ? AND owner_token = ?"


@dataclass(slots=True)
class Store:
    """The one writer of a store's file.

        store = await Store.open("simba.db")
        run = await store.claim(new_run, Owner.this_process())
        await store.commit(run.run_id, owner, [OpenStep(…)], [StepOpened(…)])

    `read` answers questions, on the same connection. `clock` gives seconds since the Unix epoch.
    """

    path: Path
    read: Reader
    _db: Connection
    _presence: Presence
    _clock: Callable[[], float]
    _lease_seconds: float
    _closed: bool = False

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        busy_seconds: float = BUSY_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        make: bool = True,
    ) -> Store:
        """The store at `path`, made if there is none, unless `make` is False.

        Raises:
            StoreError: Its file can't be used; the subclass and the message say why and what to do.
        """
        path = Path(path)
        db = await open_for_writing(path, busy_seconds, make=make)
        return cls(path, Reader(path, db), db, Presence(path), clock, lease_seconds)

    async def close(self) -> None:
        """Closes the file. After `abandon`, nothing."""
        if not self._closed:
            self._closed = True
            await self._db.close()

    def abandon(self) -> None:
        """Closes the file without waiting for that; a transaction that is open is undone. After `close`, nothing."""
        if not self._closed:
            self._closed = True
            self._db.stop()

    async def claim(self, new: NewRun, owner: Owner) -> Run:
        """Makes the run, or takes it over where its last owner is gone. A finished run is given as it is.

        Raises:
            RunOwnedError: A living process has it open.
            FingerprintMismatchError: It was started with another student, trainset, metric or settings.
        """
        now = self._clock()
        with told_of(self.path):
            await self._db.transact(lambda db: self._take(db, new, owner, now))
        return await self.read.run(new.run_id)

    def _take(self, db: sqlite3.Connection, new: NewRun, owner: Owner, now: float) -> None:
        row = db.execute(
            "SELECT owner, owner_token, lease_until, fingerprint FROM runs WHERE run_id = ?", [new.run_id]
        ).fetchone()
        lease = [owner.to_json(), owner.token, now + self._lease_seconds]
        if row is None:
            db.execute(
                "INSERT INTO runs (run_id, status, fingerprint, settings, created, updated, owner, owner_token, "
                "lease_until) VALUES (?, 'running', ?, ?, ?, ?, ?, ?, ?)",
                [new.run_id, dumps(new.fingerprint), dumps(new.settings), now, now, *lease],
            )
            return
        check_free(new.run_id, {"owner": row[0], "owner_token": row[1], "lease_until": row[2]}, owner, now)
        _check_fingerprint(new, loads(row[3]))
        db.execute(
            "UPDATE runs SET updated = ?, owner = ?, owner_token = ?, lease_until = ? WHERE run_id = ?",
            [now, *lease, new.run_id],
        )

    async def release(self, run_id: str, owner: Owner) -> None:
        """Lets go of the run, for another process to take at once."""
        with told_of(self.path):
            await self._db.execute(
                "UPDATE runs SET owner = NULL, owner_token = NULL WHERE run_id = ? AND owner_token = ?",
                [run_id, owner.token],
            )

    async def commit(
        self, run_id: str, owner: Owner, writes: Sequence[Write] = (), events: Sequence[Event] = ()
    ) -> list[Event]:
        """Stores `writes` and `events` in one transaction, all or nothing, and renews the owner's lease.

        Returns:
            The events, stamped.

        Raises:
            LeaseLostError: Another process has taken the run over. Nothing was stored.
            StoreError: The file could not be written. Nothing was stored, and the same commit can be tried again.
        """
        now = self._clock()

        def work(db: sqlite3.Connection) -> list[Event]:
            self._presence.check(db)
            self._renew_lease(db, run_id, owner, now)
            stamped = _stamped(db, run_id, events, now)
            for sql, values in statements(run_id, writes, stamped):
                db.execute(sql, values)
            return stamped

        with told_of(self.path):
            return await self._db.transact(work)

    def _renew_lease(self, db: sqlite3.Connection, run_id: str, owner: Owner, now: float) -> None:
        if db.execute(_RENEW_LEASE, [now, now + self._lease_seconds, run_id, owner.token]).rowcount != 1:
            raise LeaseLostError(
                f"run {run_id!r} was taken over by another process; this one may not write it any more"
            )


def _stamped(db: sqlite3.Connection, run_id: str, events: Sequence[Event], now: float) -> list[Event]:
    """Within the transaction, since publications add events to a run that other processes may have open."""
    seq = db.execute(LAST_EVENT, [run_id]).fetchone()[0] if events else 0
    return [event.stamped(run_id, seq + place, now) for place, event in enumerate(events, start=1)]


def _check_fingerprint(new: NewRun, stored: dict[str, str]) -> None:
    parts = sorted({*stored, *new.fingerprint})
    differing = tuple(part for part in parts if stored.get(part) != new.fingerprint.get(part))
    if differing:
        details = "; ".join(
            f"{p}: stored {stored.get(p)!s:.60}, given {new.fingerprint.get(p)!s:.60}" for p in differing
        )
        raise FingerprintMismatchError(
            f"run {new.run_id!r} was started with other values of {', '.join(differing)} ({details}). "
            "Give the same ones to go on with it, or another run_id to start anew.",
            differing,
        )
