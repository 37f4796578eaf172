"""Keeping a lease: the thread that renews it. Waiting for the end of another owner's lease."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import anyio

from simba_actors.errors import StoreError
from simba_actors.runtime.logs import get_logger
from simba_actors.store.connection import FileGuard, data_version, translate_errors
from simba_actors.store.opening import connect_for_writing
from simba_actors.store.ownership import LEASE_SECONDS, HolderWatch, Holding, Owner, find_holding, renew, steady_clock
from simba_actors.store.reading import Reader
from simba_actors.store.records import Run

logger = get_logger(__name__)

POLL_SECONDS = 0.25
"""Seconds between checks for requests of other processes."""

JOIN_SECONDS = 1.0
"""Maximum number of seconds that closing a store waits for the thread that renews its lease."""

STANDBY_SECONDS = 0.25
"""Seconds between the checks of `wait_until_free`."""

_HAS_REQUESTS = "SELECT 1 FROM requests WHERE run_id = ? AND taken IS NULL"


class LeaseKeeper:
    """Renews a lease three times in its duration, from a thread of its own.

    So a student that blocks the event loop does not lose the run. The thread ends with `stop`, when the event loop
    is closed, and when the lease is lost. It never keeps the process alive.

    Args:
        path: The store's file.
        run_id: The run that `owner` has claimed.
        owner: Whose lease it is.
        seconds: How long a lease lasts.
        clock: Seconds since the Unix epoch.
        wake: Called in the event loop when another process has sent a request.
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
        self._guard: FileGuard | None = None
        self._due = steady_clock() + seconds / 3
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
                self._warn(str(error))
                self._stopping.wait(POLL_SECONDS)

    def _watch(self, db: sqlite3.Connection) -> None:
        """Renew the lease and look for requests until the thread should end.

        Raises:
            sqlite3.Error, StoreError: The file can't be used at the moment.
        """
        seen = None
        self._guard = self._guard or FileGuard(self._path)
        while not self._is_over():
            if steady_clock() >= self._due:  # Still due after a renewal that failed.
                self._guard.check_index()
                if not renew(db, self._run_id, self._owner, self._clock(), self._seconds):
                    self._stopping.set()  # The owner meets a LeaseLostError at its next commit.
                    return
                self._due = steady_clock() + self._seconds / 3
                self._trouble = None
            version = data_version(db)
            if version != seen and self._wake is not None and self._has_requests(db):
                self._call(self._wake)
            seen = version
            self._stopping.wait(POLL_SECONDS)

    def _has_requests(self, db: sqlite3.Connection) -> bool:
        return db.execute(_HAS_REQUESTS, [self._run_id]).fetchone() is not None

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

    def _warn(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("the lease of run %r could not be renewed: %s", self._run_id, trouble)


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

    A run that was stopped by a request is left alone until a request resumes it.

    The end of a process on this host is noticed within `STANDBY_SECONDS`. Any other process counts as gone when its
    lease was not renewed for `lease_seconds` of this wait. While the file can't be read, the wait continues.
    `on_change` is called when the store has changed, and `on_look` after each look at the run.

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
            if run.status == "finished" or (watch.is_free(holding) and not await reader.is_stopped(run)):
                return run, holding
            if on_look is not None:
                await on_look(reader, run)
            trouble = None
        except StoreError as error:
            if str(error) != trouble:
                logger.warning("a standby of run %r can't look at its store, and tries again: %s", run_id, error)
            trouble = str(error)
        await anyio.sleep(STANDBY_SECONDS)
