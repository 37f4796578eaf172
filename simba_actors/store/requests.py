"""Requests to the owner of a run, from any process: to pause, resume or stop it.

    await send_request("simba.db", "my-run", "pause", reason="the endpoint is needed elsewhere")

A request is a row in the store. The owner looks for new requests every quarter of a second, marks them as taken, and
carries them out.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from simba_actors.errors import ConfigError, RunError
from simba_actors.store.connection import translate_errors
from simba_actors.store.encoding import storable_text
from simba_actors.store.opening import checked_path, open_for_writing
from simba_actors.store.ownership import Owner, find_holding, holder_of, this_user
from simba_actors.store.reading import find_run

RequestKind: TypeAlias = Literal["pause", "resume", "stop"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the owner of a run."""

    kind: RequestKind
    reason: str
    requester: str
    """User and host that made the request, such as "ada@laptop"."""
    time: float
    """Time of the request, in seconds since the Unix epoch."""


async def send_request(
    store: str | Path,
    run_id: str,
    kind: RequestKind,
    *,
    reason: str,
    by: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Request:
    """Ask the process that has the run open to pause, resume or stop it. Return once the request is stored.

    `by` names the requester; by default the user and this machine.

    Raises:
        ConfigError: `kind` is not a kind of request.
        UnknownRunError: The store has no such run.
        RunError: No process has the run open to receive the request.
    """
    if kind not in get_args(RequestKind):
        raise ConfigError(f"kind={kind!r:.40}: must be one of {', '.join(get_args(RequestKind))}")
    path = checked_path(store)
    request = Request(kind, storable_text(reason), storable_text(by or this_user()), clock())
    with translate_errors(path):
        db = await open_for_writing(path, make=False)
        try:
            await db.transact(lambda db: _add(db, run_id, request))
        finally:
            await db.close()
    return request


def take_requests(db: sqlite3.Connection, run_id: str, now: float) -> list[Request]:
    """Return the run's new requests, oldest first, and mark them as taken, within the transaction that is open."""
    rows = db.execute(
        "SELECT kind, reason, requester, time FROM requests WHERE run_id = ? AND taken IS NULL ORDER BY id", [run_id]
    ).fetchall()
    db.execute("UPDATE requests SET taken = ? WHERE run_id = ? AND taken IS NULL", [now, run_id])
    return [Request(*row) for row in rows]


def _add(db: sqlite3.Connection, run_id: str, request: Request) -> None:
    status = find_run(db, run_id).status
    if holder_of(find_holding(db, run_id), Owner.observer(), request.time) is None:
        raise RunError(
            f"run {run_id!r} is {status} and open in no process, so there is nothing to {request.kind}: "
            "start it with the same config to continue"
        )
    db.execute(
        "INSERT INTO requests (run_id, kind, reason, requester, time) VALUES (?, ?, ?, ?, ?)",
        [run_id, request.kind, request.reason, request.requester, request.time],
    )
