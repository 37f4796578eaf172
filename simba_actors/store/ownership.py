"""Ownership of runs: one owner at a time may write a run, while its process lives or its lease is renewed."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from simba_actors.errors import FingerprintMismatchError, LeaseLostError, RunOwnedError
from simba_actors.store.connection import translate_errors
from simba_actors.store.encoding import dumps, loads
from simba_actors.store.opening import BUSY_SECONDS, connect_for_reading, connect_for_writing
from simba_actors.store.queries.ledger_queries import PROMPTS
from simba_actors.store.records import NewRun

LEASE_SECONDS = 30.0
"""Seconds after the last renewal for which an owner counts as alive if its process can't be seen."""

_RENEW = (
    "UPDATE runs SET updated = :now, lease_until = :until WHERE run_id = :run AND owner_token = :token "
    "AND generation = :generation"
)

_RESERVE = "UPDATE runs SET calls_reserved = calls_reserved + 1 WHERE run_id = ? AND owner_token = ? AND generation = ?"

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
        """Return this process as an owner, which counts as alive until it retires or the process ends."""
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
        """Return this process as an observer of runs, which never owns one."""
        pid = os.getpid()
        return cls(pid, _host(), _namespace(), _start_of_this_process(pid), secrets.token_hex(16))

    @property
    def process(self) -> tuple[int, str, str, str]:
        return self.pid, self.host, self.namespace, self.started

    @property
    def name(self) -> str:
        """The process as "pid@host"."""
        return f"{self.pid}@{self.host_name}"

    @property
    def host_name(self) -> str:
        """The host without its boot id."""
        return self.host.partition(" ")[0]

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

    A process that `seen_by` can observe counts as long as it lives, any other one as long as its lease lasts.
    """
    if holding is None or (holder := _holder(holding, seen_by)) is None:
        return None
    alive = _is_holder_alive(holder, seen_by)
    return holder if (now < holding.lease_until if alive is None else alive) else None


def find_process(db: sqlite3.Connection, run_id: str) -> str | None:
    """Return the living process that has the run, as "pid@host"; None if the run is free."""
    holder = holder_of(find_holding(db, run_id), Owner.observer(), time.time())
    return None if holder is None else holder.name


def _holder(holding: Holding, seen_by: Owner) -> Owner | None:
    """Return the owner other than `seen_by` that a run has, alive or not."""
    if holding.owner is None or holding.token == seen_by.token:
        return None
    return _owner(holding.owner, holding.token or "")


def _is_holder_alive(holder: Owner, seen_by: Owner) -> bool | None:
    """Return whether the holder's process lives and has not given the run up; None if that can't be observed."""
    if holder.process == seen_by.process:
        return holder.token in _tokens
    if not holder.is_visible_to(seen_by) or not holder.started:
        return None
    try:
        return _start_of(holder.pid) == holder.started
    except OSError:  # Such as too many open files here, or processes that are hidden from this user.
        return None


def steady_clock() -> float:
    """Return seconds that never jump, and that pass while the machine sleeps if the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class HolderWatch:
    """Watches whether a run's owner is alive, while another process waits for the run.

    If the owner can't be observed, its lease is over once it was not renewed for its whole length, by the clock of this
    process. The stored end of the lease says nothing here, since the clocks of hosts differ and may be set.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = steady_clock) -> None:
        self._observer = Owner.observer()
        self._seconds, self._clock = seconds, clock
        self._seen: Holding | None = None
        self._seen_since = 0.0

    def is_free(self, holding: Holding | None) -> bool:
        """Return whether no living owner has the run, judging by all calls so far."""
        if holding is None or (holder := _holder(holding, self._observer)) is None:
            return True
        alive = _is_holder_alive(holder, self._observer)
        if alive is not None:
            return not alive
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
    raise RunOwnedError(
        f"run {run_id!r} is open in process {holder.pid} on {holder.host_name}: {remedy}", holder.pid, holder.host_name
    )


def take(db: sqlite3.Connection, new: NewRun, owner: Owner, now: float, seconds: float, expired: Holding | None) -> int:
    """Create the run, or take it over, within the transaction that is open. Return the owner's generation.

    `expired` is a holding that is known to be over. The lease lasts until `now + seconds`.

    Raises:
        RunOwnedError: A living owner has it.
        LeaseLostError: `owner` had it before, and another owner has taken it over since.
        FingerprintMismatchError: It was started with another student, trainset, metric or settings.
    """
    holding = find_holding(db, new.run_id)
    lease = [owner.to_json(), owner.token, now + seconds]
    if holding is None:
        db.execute(
            "INSERT INTO runs (run_id, status, fingerprint, settings, created, updated, owner, owner_token, "
            "lease_until, generation) VALUES (?, 'running', ?, ?, ?, ?, ?, ?, ?, 1)",
            [new.run_id, dumps(new.fingerprint), dumps({**new.settings, PROMPTS: new.prompts}), now, now, *lease],
        )
        return 1
    if owner.generation not in (None, holding.generation):
        raise lease_lost(new.run_id)
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


def renew(db: sqlite3.Connection, run_id: str, owner: Owner, now: float, seconds: float) -> bool:
    """Extend the owner's lease to `now + seconds`, within the transaction that is open. Return False if it is lost."""
    values = {"now": now, "until": now + seconds, "run": run_id, "token": owner.token, "generation": owner.generation}
    return db.execute(_RENEW, values).rowcount == 1


def reserve_call(path: Path, run_id: str, owner: Owner) -> None:
    """Count one more LM call of the run as made. May be called in any thread; does not need the event loop.

    Raises:
        LeaseLostError: Another process has taken the run over.
        StoreError: The file can't be written.
    """
    with translate_errors(path), closing(connect_for_writing(path)) as db:
        values = [run_id, owner.token, owner.generation]
        if db.execute(_RESERVE, values).rowcount != 1:
            raise _lost(run_id)


def check_owner(path: Path, run_id: str, owner: Owner) -> None:
    """Check that `owner` still has the run. May be called in any thread; does not need the event loop.

    Raises:
        LeaseLostError: Another process has taken the run over.
        StoreError: The file can't be read.
    """
    with translate_errors(path), closing(connect_for_reading(path, BUSY_SECONDS)) as db:
        holding = find_holding(db, run_id)
    if holding is None or (holding.token, holding.generation) != (owner.token, owner.generation):
        raise _lost(run_id)


def lease_lost(run_id: str) -> LeaseLostError:
    """Return the error of an owner whose run was taken over."""
    return LeaseLostError(
        f"run {run_id!r} was taken over by another process, so this one may not write it any more: start it again to "
        "continue once that process has ended"
    )


def _lost(run_id: str) -> LeaseLostError:
    return LeaseLostError(f"run {run_id!r} was taken over by another process; no more calls are sent from here")


def this_user() -> str:
    """Return "user@host", for histories that say who did something."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # Containers may run as a user without a name; the exception depends on the version.
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _owner(stored: str, token: str) -> Owner:
    process: dict[str, Any] = orjson.loads(stored)
    # Versions before schema 5 stored no namespace: for their owners, the lease decides.
    return Owner(process["pid"], process["host"], process.get("namespace", ""), process["started"], token)


@cache
def _host() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}".strip()


def _namespace() -> str:
    """Return the name of this process's pid namespace. Systems without /proc have one for all processes."""
    if not Path("/proc").exists():
        return "all"
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - pathlib would resolve it
    except OSError:
        return ""


@cache
def _start_of_this_process(pid: int) -> str:
    """Return when this process started; empty if that can't be read, so that the lease decides about its runs."""
    try:
        return _start_of(pid) or ""
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """Return when the process with that pid started, as the kernel reports it; None if there is none.

    Raises:
        OSError: The process can't be observed.
    """
    try:
        # The process's name, in parentheses, may be any bytes, since the kernel cuts it after 15 of them.
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        if not _is_alive(pid):
            return None
        if Path("/proc").exists():
            raise  # It is hidden from this user, or began just now.
        return "unknown"
    state, *rest = stat.rpartition(b")")[2].decode().split()
    return None if state in "ZX" else rest[18]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # The process belongs to another user.
    return True


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
