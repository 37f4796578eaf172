"""Who may write a run: one process at a time, for as long as it lives."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from simba_actors.errors import RunOwnedError

LEASE_SECONDS = 30.0
"""How long an owner on another machine is taken to be alive after it last wrote."""


_tokens: set[str] = set()
"""Those of this process's owners that have not retired."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One process, told apart from later ones with the same pid, and one optimizer in it by its token."""

    pid: int
    host: str
    started: str
    token: str

    @classmethod
    def this_process(cls) -> Owner:
        owner = cls(os.getpid(), _host(), _start_of(os.getpid()) or "", secrets.token_hex(16))
        _tokens.add(owner.token)
        return owner

    def retire(self) -> None:
        """It writes nothing any more: what it could not let go of is free for others of its process."""
        _tokens.discard(self.token)

    def to_json(self) -> str:
        return orjson.dumps({k: v for k, v in asdict(self).items() if k != "token"}).decode()


def check_free(run_id: str, stored: dict[str, Any], owner: Owner, now: float) -> None:
    """Raises RunOwnedError if a living process other than `owner` holds the run of the row `stored`."""
    if stored["owner"] is None or stored["owner_token"] == owner.token:
        return
    holder = Owner(**orjson.loads(stored["owner"]), token=stored["owner_token"])
    if (holder.pid, holder.host, holder.started) == (owner.pid, owner.host, owner.started):
        alive = holder.token in _tokens
        remedy = "stop the optimizer that has it, or give this run another run_id"
    elif holder.host == owner.host:
        alive = _start_of(holder.pid) == (holder.started or None)
        remedy = "end that process, or give this run another run_id"
    else:
        alive = now < stored["lease_until"]
        remedy = f"end that process, or wait {max(0.0, stored['lease_until'] - now):.0f} s if it is gone"
    if alive:
        name = holder.host.partition(" ")[0]
        raise RunOwnedError(f"run {run_id!r} is open in process {holder.pid} on {name}: {remedy}", holder.pid, name)


@cache
def _host() -> str:
    """This machine since it was booted: pids mean nothing beyond that."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}".strip()


def _start_of(pid: int) -> str | None:
    """When the process of that pid started, in the kernel's words; None if there is none."""
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
