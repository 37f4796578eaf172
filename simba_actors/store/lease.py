"""A thread that keeps a claimed run: it renews the lease and reads requests, even if the event loop is blocked."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import monotonic

from simba_actors.errors import LeaseLostError, StoreError
from simba_actors.logs import get_logger
from simba_actors.store.connection import translate_errors
from simba_actors.store.opening import BUSY_SECONDS, connect_for_reading, connect_for_writing
from simba_actors.store.ownership import Owner, find_holding
from simba_actors.store.requests import has_requests

logger = get_logger(__name__)

LOOK_SECONDS = 0.25
"""Seconds between checks for requests of other processes."""

JOIN_SECONDS = 1.0

_RENEW = (
    "UPDATE runs SET updated = :now, lease_until = :until WHERE run_id = :run AND owner_token = :token "
    "AND generation = :generation"
)

_RESERVE = "UPDATE runs SET calls_reserved = calls_reserved + 1 WHERE run_id = ? AND owner_token = ? AND generation = ?"


def renew(db: sqlite3.Connection, run_id: str, owner: Owner, now: float, seconds: float) -> bool:
    """Extend the owner's lease to `now + seconds`, within the transaction that is open. Return False if it is lost."""
    values = {"now": now, "until": now + seconds, "run": run_id, "token": owner.token, "generation": owner.generation}
    return db.execute(_RENEW, values).rowcount == 1


def reserve_call(path: Path, run_id: str, owner: Owner) -> None:
    """Count one more LM call of the run as made, from any thread, whatever the event loop is doing.

    Raises:
        LeaseLostError: Another process has taken the run over.
        StoreError: The file can't be written.
    """
    with translate_errors(path), closing(connect_for_writing(path)) as db:
        values = [run_id, owner.token, owner.generation]
        if db.execute(_RESERVE, values).rowcount != 1:
            raise _lost(run_id)


def check_owner(path: Path, run_id: str, owner: Owner) -> None:
    """Return if `owner` still has the run, from any thread, whatever the event loop is doing.

    Raises:
        LeaseLostError: Another process has taken the run over.
        StoreError: The file can't be read.
    """
    with translate_errors(path), closing(connect_for_reading(path, BUSY_SECONDS)) as db:
        holding = find_holding(db, run_id)
    if holding is None or (holding.token, holding.generation) != (owner.token, owner.generation):
        raise _lost(run_id)


def _lost(run_id: str) -> LeaseLostError:
    return LeaseLostError(f"run {run_id!r} was taken over by another process; no more calls are sent from here")


class LeaseKeeper:
    """Renews a lease three times in its duration, from a thread of its own.

    A student that blocks the event loop does not lose the run by that. The thread ends with `stop`, when the event loop
    is closed, and when the lease is lost. It never keeps the process alive.

    Args:
        path: The store's file.
        run_id: The run that `owner` has claimed.
        owner: Whose lease it is.
        seconds: How long a lease lasts.
        clock: Seconds since the Unix epoch.
        wake: Called in the event loop when another process has asked something of the run.
    """

    def __init__(
        self,
        path: Path,
        run_id: str,
        owner: Owner,
        seconds: float,
        clock: Callable[[], float],
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._path = path
        self._run_id = run_id
        self._owner = owner
        self._seconds = seconds
        self._clock = clock
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._keep, name=f"lease of run {run_id!r}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread soon, without waiting for it."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until the thread has ended, for `JOIN_SECONDS` at most: it may be waiting for another writer."""
        self._thread.join(JOIN_SECONDS)

    def _keep(self) -> None:
        while not self._is_over():
            try:
                with translate_errors(self._path), closing(connect_for_writing(self._path)) as db:
                    self._watch(db)
            except StoreError as error:
                self._say(str(error))
                self._stopping.wait(LOOK_SECONDS)

    def _watch(self, db: sqlite3.Connection) -> None:
        """Renew and look until it is over. Raise sqlite3.Error or StoreError if the file can't be used for now."""
        seen, due = None, monotonic() + self._seconds / 3
        while not self._is_over():
            if monotonic() >= due:
                if not renew(db, self._run_id, self._owner, self._clock(), self._seconds):
                    self._stopping.set()  # The owner meets a LeaseLostError at its next commit.
                    return
                due = monotonic() + self._seconds / 3
                self._trouble = None
            version = db.execute("PRAGMA data_version").fetchone()[0]
            if version != seen and self._wake is not None and has_requests(db, self._run_id):
                self._call(self._wake)
            seen = version
            self._stopping.wait(LOOK_SECONDS)

    def _is_over(self) -> bool:
        if self._loop.is_closed():
            self._owner.retire()  # Nobody is left to release the run.
            return True
        return self._stopping.is_set()

    def _call(self, wake: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(wake)
        except RuntimeError:
            return  # The loop was closed; the thread sees that next.

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("the lease of run %r could not be renewed: %s", self._run_id, trouble)
