"""Ownership of runs: one owner at a time may write a run, while its process lives or its lease is renewed."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import sqlite3
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from simba_actors.errors import RunOwnedError

LEASE_SECONDS = 30.0
"""Seconds after the last renewal for which an owner counts as alive if its process can't be seen."""

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
    if holding is None or holding.owner is None or holding.token == seen_by.token:
        return None
    holder = _owner(holding.owner, holding.token or "")
    if holder.process == seen_by.process:
        alive = holder.token in _tokens
    elif holder.is_visible_to(seen_by):
        alive = _start_of(holder.pid) == (holder.started or None)
    else:
        alive = now < holding.lease_until
    return holder if alive else None


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
