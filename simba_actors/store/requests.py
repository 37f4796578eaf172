"""Requests to the owner of a run, from any process: to pause, resume or stop it.

    await send_request("simba.db", "my-run", "pause", reason="the endpoint is needed elsewhere")

A request is a row in the store. The owner looks for new requests every quarter of a second, marks them as taken, and
carries them out.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import get_args

from simba_actors.errors import ConfigError, RunError
from simba_actors.events import RunResumed
from simba_actors.store.connection import translate_errors
from simba_actors.store.encoding import storable_text
from simba_actors.store.opening import checked_path, open_for_writing
from simba_actors.store.ownership import Owner, find_holding, holder_of, this_user
from simba_actors.store.queries.ledger_queries import find_run, was_stopped
from simba_actors.store.records import Request, RequestKind
from simba_actors.store.statements import SET_STATUS, add_event


async def send_request(
    store: str | Path,
    run_id: str,
    kind: RequestKind,
    *,
    reason: str = "",
    by: str | None = None,
) -> Request:
    """Ask the process that has the run open to pause, resume or stop it. Return once the request is stored.

    A run that was stopped by a request is resumed by one of its standbys, or else when it is started again.

    `by` names the requester; by default the user and this machine.

    Raises:
        ConfigError: `kind` is not a kind of request.
        UnknownRunError: The store has no such run.
        RunError: No process has the run open to receive the request.
    """
    if kind not in get_args(RequestKind):
        raise ConfigError(f"kind={kind!r:.40}: must be one of {', '.join(get_args(RequestKind))}")
    path = checked_path(store)
    request = Request(kind, storable_text(reason), storable_text(by or this_user()), time.time())
    with translate_errors(path):
        db = await open_for_writing(path, make=False)
        try:
            await db.transact(lambda db: _add(db, run_id, request))
        finally:
            await db.close()
    return request


def _add(db: sqlite3.Connection, run_id: str, request: Request) -> None:
    run = find_run(db, run_id)
    if holder_of(find_holding(db, run_id), Owner.observer(), request.time) is not None:
        db.execute(
            "INSERT INTO requests (run_id, kind, reason, requester, time) VALUES (?, ?, ?, ?, ?)",
            [run_id, request.kind, request.reason, request.requester, request.time],
        )
    elif request.kind == "resume" and was_stopped(db, run):
        db.execute(SET_STATUS, ["running", None, None, run_id])
        add_event(db, RunResumed(by="resume"), run_id, request.time)
    else:
        if run.status == "finished":
            raise RunError(f"run {run_id!r} is finished, so there is nothing to {request.kind}")
        raise RunError(
            f"run {run_id!r} is {run.status} and open in no process, so there is nothing to {request.kind}: "
            "start it with the same config to continue"
        )
