"""Forking: copying the first steps of a run, as the start of another run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from simba_actors.errors import RunError
from simba_actors.events import RunForked
from simba_actors.store.connection import translate_errors
from simba_actors.store.encoding import INTENT_COLUMNS, PROGRAM_COLUMNS, PROPOSAL_COLUMNS, RESULT_COLUMNS
from simba_actors.store.opening import checked_path, open_for_writing
from simba_actors.store.queries.usage_queries import ROLLOUT_SUMS
from simba_actors.store.reading import Reader
from simba_actors.store.statements import add_event

_COPIED_COLUMNS = {
    "programs": PROGRAM_COLUMNS,
    "steps": "step, plan, result, progress",
    "proposals": PROPOSAL_COLUMNS,
    "rollouts": f"{INTENT_COLUMNS}, {RESULT_COLUMNS}",
}


async def fork(
    store: str | Path, run_id: str, *, at: int, new_run_id: str, clock: Callable[[], float] = time.time
) -> None:
    """Copy the first `at` steps of a run, all closed, with the programs they made, as the run `new_run_id`.

        await fork("simba.db", "my-run", at=3, new_run_id="my-run-2")

    Start the new run with the same config and its `run_id` to continue from there. The first run is only read.

    Raises:
        UnknownRunError: The store has no such run.
        RunError: It has closed fewer steps than `at`, or `new_run_id` is taken or empty.
    """
    path = checked_path(store)
    db = await open_for_writing(path)
    try:
        await _check(Reader(path, db), run_id, at, new_run_id)
        with translate_errors(path):
            await db.transact(lambda db: _copy(db, run_id, at, new_run_id, clock()))
    finally:
        await db.close()


async def _check(reader: Reader, run_id: str, at: int, new_run_id: str) -> None:
    await reader.run(run_id)
    closed = await reader.ask(_steps_closed, run_id)
    if not 0 <= at <= closed:
        raise RunError(f"run {run_id!r} has closed {closed} steps, so it can be forked at 0 to {closed}, not at {at}")
    if not new_run_id:
        raise RunError("new_run_id='': give the fork a name")
    if any(run.run_id == new_run_id for run in await reader.runs()):
        raise RunError(f"the store has a run {new_run_id!r} already: give the fork another name")


def _steps_closed(db: sqlite3.Connection, run_id: str) -> int:
    return int(db.execute("SELECT COUNT(result) FROM steps WHERE run_id = ?", [run_id]).fetchone()[0])


def _copy(db: sqlite3.Connection, run_id: str, at: int, new_run_id: str, now: float) -> None:
    reason = f"forked from {run_id!r} after {at} steps; start it to continue"
    db.execute(
        "INSERT INTO runs (run_id, status, reason, fingerprint, settings, created, updated) "
        "SELECT ?, 'paused', ?, fingerprint, settings, ?, ? FROM runs WHERE run_id = ?",
        [new_run_id, reason, now, now, run_id],
    )
    for table, columns in _COPIED_COLUMNS.items():
        # The choice of a winner belongs to the whole run: the fork's own final rollouts are still to come.
        kept = "AND phase <> 'final'" if table == "rollouts" else ""
        db.execute(
            f"INSERT INTO {table} (run_id, {columns}, checksum) SELECT ?, {columns}, checksum FROM {table} "
            f"WHERE run_id = ? AND step < ? {kept}",
            [new_run_id, run_id, at],
        )
    db.execute("DELETE FROM tallies WHERE run_id = ?", [new_run_id])
    db.execute(
        f"INSERT INTO tallies SELECT run_id, step, phase, program, model ->> 0, COUNT(*), {ROLLOUT_SUMS} "
        "FROM rollouts WHERE run_id = ? GROUP BY step, phase, program, model ->> 0",
        [new_run_id],
    )
    add_event(db, RunForked(source=run_id, steps=at), new_run_id, now)
