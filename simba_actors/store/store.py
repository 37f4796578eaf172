"""Writing to the store: whole transactions by the one owner of a run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from simba_actors.errors import FingerprintMismatchError, LeaseLostError, StoreError
from simba_actors.events import Event
from simba_actors.logs import get_logger
from simba_actors.runtime.threads import THREAD_REMEDY
from simba_actors.store.connection import Connection, FileGuard, translate_errors
from simba_actors.store.encoding import dumps, loads
from simba_actors.store.opening import BUSY_SECONDS, checked_path, open_for_writing
from simba_actors.store.ownership import (
    LEASE_SECONDS,
    HolderWatch,
    Holding,
    LeaseKeeper,
    Owner,
    check_free,
    find_holding,
    renew,
    steady_clock,
)
from simba_actors.store.reading import PROMPTS, Reader
from simba_actors.store.records import NewRun, Run, Write
from simba_actors.store.requests import Request, take_requests
from simba_actors.store.statements import LAST_EVENT, add_event, statements

logger = get_logger(__name__)

STANDBY_SECONDS = 0.25
"""Seconds between the checks of `wait_until_free`."""


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
        """Open the store at `path`. Make it if there is none, unless `make` is False.

        Raises:
            StoreError: Its file can't be used; the subclass and the message say why and what to do.
        """
        checked = checked_path(path)
        db = await open_for_writing(checked, busy_seconds, make=make)
        try:
            with translate_errors(checked):
                guard = FileGuard(checked)
        except BaseException:
            await db.close()
            raise
        return cls(checked, Reader(checked, db), db, guard, clock, lease_seconds)

    async def close(self) -> None:
        """Close the file, unless that was done already."""
        if not self._closed:
            self._closed = True
            await self._end_leases()
            await self._db.close()

    def abandon(self) -> None:
        """Close the file without waiting, unless that was done already. An open transaction is rolled back."""
        if not self._closed:
            self._closed = True
            for lease in self._leases.values():
                lease.stop()
            self._db.stop()

    async def claim(
        self, new: NewRun, owner: Owner, wake: Callable[[], None] | None = None, *, expired: Holding | None = None
    ) -> Run:
        """Make the run, or take it over from an owner that is gone. A finished run is returned as it is.

        `expired` is a holding that `wait_until_free` has seen to be over, whatever the clocks say.

        From then on a thread renews the owner's lease, until the run is released or the store closed, and calls `wake`
        in the event loop when another process has sent a request: see `take_requests`.

        Raises:
            RunOwnedError: A living owner has it.
            LeaseLostError: `owner` had it before, and another owner has taken it over since.
            StoreError: The file can't be written, or the process can't start the thread.
            FingerprintMismatchError: It was started with another student, trainset, metric or settings.
        """
        now = self._clock()
        with translate_errors(self.path):
            owner.generation = await self._db.transact(lambda db: self._take(db, new, owner, now, expired))
        try:
            keeper = LeaseKeeper(self.path, new.run_id, owner, self._lease_seconds, self._clock, wake)
        except RuntimeError as error:
            raise StoreError(
                f"{self.path} can't be kept open, since the process can't start a thread: {THREAD_REMEDY}"
            ) from error
        self._leases[new.run_id] = keeper
        return await self.read.run(new.run_id)

    def _take(self, db: sqlite3.Connection, new: NewRun, owner: Owner, now: float, expired: Holding | None) -> int:
        """Return the generation of the new owner."""
        holding = find_holding(db, new.run_id)
        lease = [owner.to_json(), owner.token, now + self._lease_seconds]
        if holding is None:
            db.execute(
                "INSERT INTO runs (run_id, status, fingerprint, settings, created, updated, owner, owner_token, "
                "lease_until, generation) VALUES (?, 'running', ?, ?, ?, ?, ?, ?, ?, 1)",
                [new.run_id, dumps(new.fingerprint), dumps({**new.settings, PROMPTS: new.prompts}), now, now, *lease],
            )
            return 1
        if owner.generation not in (None, holding.generation):
            raise _lease_lost(new.run_id)
        if holding != expired:
            check_free(new.run_id, holding, owner, now)
        (stored,) = db.execute("SELECT fingerprint FROM runs WHERE run_id = ?", [new.run_id]).fetchone()
        _check_fingerprint(new, loads(stored))
        generation = owner.generation or holding.generation + 1
        db.execute(
            "UPDATE runs SET updated = ?, owner = ?, owner_token = ?, lease_until = ?, generation = ? WHERE run_id = ?",
            [now, *lease, generation, new.run_id],
        )
        return generation

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
        """Return what other processes have asked of the run since the last time, oldest first.

        Raises:
            LeaseLostError: Another process has taken the run over, and its requests with it.
        """
        now = self._clock()

        def work(db: sqlite3.Connection) -> list[Request]:
            self._renew(db, run_id, owner, now)
            return take_requests(db, run_id, now)

        with translate_errors(self.path):
            return await self._db.transact(work)

    def _renew(self, db: sqlite3.Connection, run_id: str, owner: Owner, now: float) -> None:
        if not renew(db, run_id, owner, now, self._lease_seconds):
            raise _lease_lost(run_id)

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


async def wait_until_free(
    reader: Reader,
    run_id: str,
    *,
    on_change: Callable[[], None] | None = None,
    on_look: Callable[[Reader, Run], Awaitable[None]] | None = None,
    lease_seconds: float = LEASE_SECONDS,
    clock: Callable[[], float] = steady_clock,
) -> tuple[Run, Holding | None]:
    """Wait until no living owner has the run, or it is finished. Return the run, and the last owner's holding.

    A process that ends on this host is noticed within `STANDBY_SECONDS`, any other one when its lease was not renewed
    for `lease_seconds` of this wait. While the file can't be read, the wait continues. `on_change` is called when the
    store has changed, and `on_look` each time that the run was looked at.

    Raises:
        UnknownRunError: The store has no such run.
    """
    watch, seen, trouble = HolderWatch(lease_seconds, clock), -1, None
    while True:
        try:
            version = await reader.data_version()
            if version != seen and on_change is not None:
                on_change()
            seen = version
            run, holding = await reader.run(run_id), await reader.ask(find_holding, run_id)
            if watch.is_free(holding) or run.status == "finished":
                return run, holding
            if on_look is not None:
                await on_look(reader, run)
            trouble = None
        except StoreError as error:
            if str(error) != trouble:
                logger.warning("a standby of run %r can't look at its store, and tries again: %s", run_id, error)
            trouble = str(error)
        await anyio.sleep(STANDBY_SECONDS)


def _lease_lost(run_id: str) -> LeaseLostError:
    return LeaseLostError(
        f"run {run_id!r} was taken over by another process, so this one may not write it any more: start it again to "
        "continue once that process has ended"
    )


def _stamped(db: sqlite3.Connection, run_id: str, events: Sequence[Event], now: float) -> list[Event]:
    """Number the events within the transaction: publications add events to runs that other processes have open."""
    seq = db.execute(LAST_EVENT, [run_id]).fetchone()[0] if events else 0
    return [event.stamped(run_id, seq + index, now) for index, event in enumerate(events, start=1)]


def _check_fingerprint(new: NewRun, stored: dict[str, str]) -> None:
    parts = sorted({*stored, *new.fingerprint})
    differing = tuple(part for part in parts if stored.get(part) != new.fingerprint.get(part))
    if differing:
        details = "; ".join(
            f"{p}: stored {stored.get(p)!s:.60}, given {new.fingerprint.get(p)!s:.60}" for p in differing
        )
        raise FingerprintMismatchError(
            f"run {new.run_id!r} was started with other values of {', '.join(differing)} ({details}). "
            "Give the same ones to continue it, or another run_id to start a new run.",
            differing,
        )
