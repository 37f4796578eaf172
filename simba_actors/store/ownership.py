"""Ownership of runs: one owner at a time may write a run, while its process lives or its lease is renewed."""

from __future__ import annotations

import asyncio
import getpass
import os
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from simba_actors.errors import LeaseLostError, RunOwnedError, StoreError
from simba_actors.logs import get_logger
from simba_actors.store.connection import translate_errors
from simba_actors.store.opening import BUSY_SECONDS, connect_for_reading, connect_for_writing

logger = get_logger(__name__)

LEASE_SECONDS = 30.0
"""Seconds after the last renewal for which an owner counts as alive if its process can't be seen."""

LOOK_SECONDS = 0.25
"""Seconds between checks for requests of other processes."""

JOIN_SECONDS = 1.0
"""Most seconds that closing a store waits for the thread that renews its lease."""

_RENEW = (
    "UPDATE runs SET updated = :now, lease_until = :until WHERE run_id = :run AND owner_token = :token "
    "AND generation = :generation"
)

_RESERVE = "UPDATE runs SET calls_reserved = calls_reserved + 1 WHERE run_id = ? AND owner_token = ? AND generation = ?"

_HAS_REQUESTS = "SELECT 1 FROM requests WHERE run_id = ? AND taken IS NULL"

_tokens: set[str] = set()
"""Tokens of this process's owners that have not retired."""


@dataclass(slots=True)
class Owner:
    """One optimizer in one process, identified by its token. A later process with the same pid is not mistaken for it.

    `generation` counts the owners that the run has had up to this one; None before the run is claimed. Every write is
    fenced by it: once another owner has claimed the run, this one can't write any more, whatever happens to the other.
    """

    pid: int
    host: str
    """The host name and, if known, the boot id: pids are meaningless elsewhere."""
    namespace: str
    """The pid namespace. Containers can share a host name and a kernel, and still have pids of their own."""
    started: str
    """Start time of the process, as reported by the kernel, since pids are reused."""
    token: str = field(repr=False)
    generation: int | None = None

    @classmethod
    def this_process(cls) -> Owner:
        owner = cls.observer()
        _tokens.add(owner.token)
        return owner

    def retire(self) -> None:
        """Leave the run to other optimizers of this process, even if it could not be released in the store."""
        _tokens.discard(self.token)

    def to_json(self) -> str:
        process = {"pid": self.pid, "host": self.host, "namespace": self.namespace, "started": self.started}
        return orjson.dumps(process).decode()

    @classmethod
    def observer(cls) -> Owner:
        """Return an owner that never owns anything: this process as one that looks at the owners of runs."""
        pid = os.getpid()
        return cls(pid, _host(), _namespace(), _start_of(pid) or "", secrets.token_hex(16))

    @property
    def process(self) -> tuple[int, str, str, str]:
        return self.pid, self.host, self.namespace, self.started

    @property
    def name(self) -> str:
        """The process as "pid@host"."""
        return f"{self.pid}@{self.host.partition(' ')[0]}"

    def is_visible_to(self, other: Owner) -> bool:
        """Return whether the other's process can see whether this one lives: both share the meaning of pids."""
        return bool(self.namespace) and (self.host, self.namespace) == (other.host, other.namespace)


@dataclass(frozen=True, slots=True)
class Holding:
    """The owner's columns of a run. `lease_until` is in seconds since the Unix epoch."""

    owner: str | None
    token: str | None
    lease_until: float
    generation: int


def find_holding(db: sqlite3.Connection, run_id: str) -> Holding | None:
    """Return who has the run; None if there is no such run."""
    row = db.execute(
        "SELECT owner, owner_token, lease_until, generation FROM runs WHERE run_id = ?", [run_id]
    ).fetchone()
    return None if row is None else Holding(*row)


def holder_of(holding: Holding | None, seen_by: Owner, now: float) -> Owner | None:
    """Return the living owner of a run other than `seen_by`; None if the run is free.

    A process that can be seen from here counts as long as it lives, any other one as long as its lease lasts.
    """
    if holding is None or (holder := _holder(holding, seen_by)) is None:
        return None
    lives = _lives(holder, seen_by)
    return holder if (now < holding.lease_until if lives is None else lives) else None


def _holder(holding: Holding, seen_by: Owner) -> Owner | None:
    """Return the owner other than `seen_by` that a run has, alive or not."""
    if holding.owner is None or holding.token == seen_by.token:
        return None
    return _owner(holding.owner, holding.token or "")


def _lives(holder: Owner, seen_by: Owner) -> bool | None:
    """Return whether the holder's process lives and has not given the run up; None if that can't be seen."""
    if holder.process == seen_by.process:
        return holder.token in _tokens
    if holder.is_visible_to(seen_by):
        return _start_of(holder.pid) == (holder.started or None)
    return None


def steady_clock() -> float:
    """Return seconds that never jump, and that pass while the machine sleeps if the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class HolderWatch:
    """Watches whether a run's owner lives, for as long as another process waits for the run.

    The lease of an owner that can't be seen is over once it was not renewed for its whole length by the clock of this
    process. The end that the owner has stored is of no use here: hosts' clocks differ, and any of them may be set.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = steady_clock) -> None:
        self._observer = Owner.observer()
        self._seconds, self._clock = seconds, clock
        self._seen: Holding | None = None
        self._seen_since = 0.0

    def is_free(self, holding: Holding | None) -> bool:
        """Return whether no living owner has the run, by what was seen so far."""
        if holding is None or (holder := _holder(holding, self._observer)) is None:
            return True
        lives = _lives(holder, self._observer)
        if lives is not None:
            return not lives
        if holding != self._seen:
            self._seen, self._seen_since = holding, self._clock()
        return self._clock() - self._seen_since >= self._seconds


def check_free(run_id: str, holding: Holding, owner: Owner, now: float) -> None:
    """Raise RunOwnedError if a living owner other than `owner` has the run."""
    holder = holder_of(holding, owner, now)
    if holder is None:
        return
    if holder.process == owner.process:
        remedy = "stop the optimizer that has it, or give this run another run_id"
    elif holder.is_visible_to(owner):
        remedy = "end that process, or give this run another run_id"
    else:
        remedy = f"end that process, or wait {holding.lease_until - now:.0f} s if it is gone"
    name = holder.host.partition(" ")[0]
    raise RunOwnedError(f"run {run_id!r} is open in process {holder.pid} on {name}: {remedy}", holder.pid, name)


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
                self._say(str(error))
                self._stopping.wait(LOOK_SECONDS)

    def _watch(self, db: sqlite3.Connection) -> None:
        """Renew and look until it is over. Raise sqlite3.Error or StoreError if the file can't be used for now."""
        seen = None
        while not self._is_over():
            if steady_clock() >= self._due:  # Still so after a renewal that failed.
                if not renew(db, self._run_id, self._owner, self._clock(), self._seconds):
                    self._stopping.set()  # The owner meets a LeaseLostError at its next commit.
                    return
                self._due = steady_clock() + self._seconds / 3
                self._trouble = None
            version = db.execute("PRAGMA data_version").fetchone()[0]
            if version != seen and self._wake is not None and self._has_requests(db):
                self._call(self._wake)
            seen = version
            self._stopping.wait(LOOK_SECONDS)

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

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("the lease of run %r could not be renewed: %s", self._run_id, trouble)


def this_user() -> str:
    """Return "user@host", for histories that say who did something."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # Containers run users that are in no list; which of the two depends on the version.
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _owner(stored: str, token: str) -> Owner:
    process: dict[str, Any] = orjson.loads(stored)
    # Versions before schema 5 knew nothing of namespaces: the lease decides about their owners.
    return Owner(process["pid"], process["host"], process.get("namespace", ""), process["started"], token)


@cache
def _host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}".strip()


def _namespace() -> str:
    """Return the name of this process's pid namespace. Systems without /proc have one for all processes."""
    if not Path("/proc").exists():
        return "all"
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - pathlib would resolve it
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """Return when the process of that pid started, in the kernel's words; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None if Path("/proc").exists() else _seen_alive(pid)
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]


def _seen_alive(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # It is another user's.
    return ""
