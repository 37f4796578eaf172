"""Writing to the store: whole transactions by the one owner of a run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simba_actors.errors import StoreError
from simba_actors.events import Event
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import THREAD_REMEDY
from simba_actors.store.connection import Connection, FileGuard, translate_errors
from simba_actors.store.leases import LeaseKeeper
from simba_actors.store.open_stores import check_not_inherited, note_closed, note_open
from simba_actors.store.opening import BUSY_SECONDS, checked_path, open_for_writing
from simba_actors.store.ownership import LEASE_SECONDS, Holding, Owner, lease_lost, renew, take
from simba_actors.store.queries.ledger_queries import last_event
from simba_actors.store.reading import Reader
from simba_actors.store.records import NewRun, Request, Run, Write
from simba_actors.store.statements import add_event, statements

logger = get_logger(__name__)


@dataclass(slots=True)
class Store:
    """The one writer of a store's file.

        store = await Store.open("simba.db")
        owner = Owner.this_process()
        run = await store.claim(new_run, owner)
        await store.commit(run.run_id, owner, [OpenStep(…)], [StepOpened(…)])
        await store.release(run.run_id, owner)
        await store.close()

    `read` answers questions, on the same connection. `clock` returns seconds since the Unix epoch.
    """

    path: Path
    read: Reader
    _db: Connection
    _guard: FileGuard
    _clock: Callable[[], float]
    _lease_seconds: float
    _leases: dict[str, LeaseKeeper] = field(default_factory=dict[str, LeaseKeeper])
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
        """Open the store at `path`. Create it if there is none, unless `make` is False.

        Raises:
            StoreError: Its file can't be used; the subclass and the message say why and what to do.
        """
        checked = checked_path(path)
        with translate_errors(checked):
            check_not_inherited(checked)
        db = await open_for_writing(checked, busy_seconds, make=make)
        try:
            with translate_errors(checked):
                guard = FileGuard(checked)
        except BaseException:
            await db.close()
            raise
        note_open(guard.identity)
        return cls(checked, Reader(checked, db), db, guard, clock, lease_seconds)

    async def close(self) -> None:
        """Close the file. Does nothing if it is closed."""
        if not self._closed:
            self._closed = True
            note_closed(self._guard.identity)
            try:
                await self._end_leases()
            finally:
                await self._db.close()

    def abandon(self) -> None:
        """Close the file without waiting. An open transaction is rolled back. Does nothing if the file is closed."""
        if not self._closed:
            self._closed = True
            note_closed(self._guard.identity)
            for lease in self._leases.values():
                lease.stop()
            self._db.stop()

    async def claim(
        self, new: NewRun, owner: Owner, wake: Callable[[], None] | None = None, *, expired: Holding | None = None
    ) -> Run:
        """Create the run, or take it over from an owner that is gone. A finished run is returned as it is.

        `expired` is a holding that `wait_until_free` has seen to be over, whatever the clocks say.

        From then on, until the run is released or the store closed, a thread renews the owner's lease. It calls `wake`
        in the event loop when another process has sent a request; see `take_requests`.

        Raises:
            RunOwnedError: A living owner has it.
            LeaseLostError: `owner` had it before, and another owner has taken it over since.
            StoreError: The file can't be written, or the process can't start the thread.
            FingerprintMismatchError: It was started with another student, trainset, metric or settings.
        """
        now, seconds = self._clock(), self._lease_seconds
        with translate_errors(self.path):
            owner.generation = await self._db.transact(lambda db: take(db, new, owner, now, seconds, expired))
        try:
            keeper = LeaseKeeper(self.path, new.run_id, owner, seconds, self._clock, wake)
        except RuntimeError as error:
            raise StoreError(
                f"{self.path} can't be kept open, since the process can't start a thread: {THREAD_REMEDY}"
            ) from error
        self._leases[new.run_id] = keeper
        return await self.read.run(new.run_id)

    async def release(self, run_id: str, owner: Owner) -> None:
        """Give up the run so that another owner can claim it."""
        await self._end_leases()
        with translate_errors(self.path):
            await self._db.execute(
                "UPDATE runs SET owner = NULL, owner_token = NULL WHERE run_id = ? AND owner_token = ?",
                [run_id, owner.token],
            )

    async def commit(
        self, run_id: str, owner: Owner, writes: Sequence[Write] = (), events: Sequence[Event] = ()
    ) -> list[Event]:
        """Store `writes` and `events` in one transaction, all or nothing, and renew the owner's lease.

        Returns:
            The events, stamped.

        Raises:
            LeaseLostError: Another process has taken the run over. Nothing was stored.
            StoreError: The file could not be written. Nothing was stored, and the same commit can be tried again.
        """
        now = self._clock()

        def work(db: sqlite3.Connection) -> list[Event]:
            self._renew(db, run_id, owner, now)
            stamped = _stamped(db, run_id, events, now)
            for sql, values in statements(run_id, writes, stamped):
                db.execute(sql, values)
            return stamped

        with translate_errors(self.path):
            return await self._db.transact(work, check=self._guard.check)

    async def take_requests(self, run_id: str, owner: Owner) -> list[Request]:
        """Return the requests that other processes have sent since the last call, oldest first.

        Raises:
            LeaseLostError: Another process has taken the run over, and will get its requests.
        """
        now = self._clock()

        def work(db: sqlite3.Connection) -> list[Request]:
            self._renew(db, run_id, owner, now)
            return _take_requests(db, run_id, now)

        with translate_errors(self.path):
            return await self._db.transact(work)

    def _renew(self, db: sqlite3.Connection, run_id: str, owner: Owner, now: float) -> None:
        if not renew(db, run_id, owner, now, self._lease_seconds):
            raise lease_lost(run_id)

    async def _end_leases(self) -> None:
        leases = list(self._leases.values())
        self._leases.clear()
        for lease in leases:
            lease.stop()
        for lease in leases:
            await self._db.run_in_thread(lease.join)


async def store_event(path: Path, run_id: str, event: Event, clock: Callable[[], float] = time.time) -> None:
    """Append an event to the log of a run that another process may have open."""
    with translate_errors(path):
        db = await open_for_writing(path, make=False)
        try:
            await db.transact(lambda db: add_event(db, event, run_id, clock()))
        finally:
            await db.close()


def _stamped(db: sqlite3.Connection, run_id: str, events: Sequence[Event], now: float) -> list[Event]:
    """Number the events within the transaction: publications add events to runs that other processes have open."""
    seq = last_event(db, run_id) if events else 0
    return [event.stamped(run_id, seq + index, now) for index, event in enumerate(events, start=1)]


def _take_requests(db: sqlite3.Connection, run_id: str, now: float) -> list[Request]:
    """Return the run's new requests, oldest first, and mark them as taken, within the transaction that is open."""
    rows = db.execute(
        "SELECT kind, reason, requester, time FROM requests WHERE run_id = ? AND taken IS NULL ORDER BY id", [run_id]
    ).fetchall()
    db.execute("UPDATE requests SET taken = ? WHERE run_id = ? AND taken IS NULL", [now, run_id])
    return [Request(*row) for row in rows]
