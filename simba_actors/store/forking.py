"""A copy of a run up to one of its steps, to go on from there on its own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from simba_actors.errors import RunError
from simba_actors.events import RunForked, to_json
from simba_actors.store.encoding import dumps
from simba_actors.store.error_translation import told_of
from simba_actors.store.opening import open_for_writing
from simba_actors.store.reading import Reader
from simba_actors.store.schema import ROLLOUT_SUMS

_PROGRAM_COLUMNS = "number, digest, parents, strategy, step, provenance"
_STEP_COLUMNS = "step, plan, result, progress"
_PROPOSAL_COLUMNS = "step, slot, intent, program, reason, calls, prompt_tokens, completion_tokens, cost"
_ROLLOUT_COLUMNS = (
    "step, phase, position, program, split, example, model, outcome, score, seconds, calls, prompt_tokens, "
    "completion_tokens, cost, trajectory"
)


async def fork(
    store: str | Path, run_id: str, *, at: int, new_run_id: str, clock: Callable[[], float] = time.time
) -> None:
    """Copies the first `at` steps of a run, all closed, with the programs they made, as the run `new_run_id`.

    Started with the same config and that `run_id`, it goes on from there. The run itself is only read.

    Raises:
        UnknownRunError: The store has no such run.
        RunError: It has not closed so many steps, or `new_run_id` is taken or empty.
    """
    path = Path(store)
    db = await open_for_writing(path)
    try:
        await _check(Reader(path, db), run_id, at, new_run_id)
        with told_of(path):
            await db.transact(lambda db: _copy(db, run_id, at, new_run_id, clock()))
    finally:
        await db.close()


async def _check(reader: Reader, run_id: str, at: int, new_run_id: str) -> None:
    await reader.run(run_id)
    closed = sum(step.result is not None for step in await reader.steps(run_id))
    if not 0 <= at <= closed:
        raise RunError(f"run {run_id!r} has closed {closed} steps, so it can be forked at 0 to {closed}, not at {at}")
    if not new_run_id:
        raise RunError("new_run_id='': a run's name has characters, or nothing could start it; give the fork one")
    if any(run.run_id == new_run_id for run in await reader.runs()):
        raise RunError(f"the store has a run {new_run_id!r} already: give the fork another name")


def _copy(db: sqlite3.Connection, run_id: str, at: int, new_run_id: str, now: float) -> None:
    reason = f"forked from {run_id!r} after {at} steps; start it to go on"
    db.execute(
        "INSERT INTO runs (run_id, status, reason, fingerprint, settings, created, updated) "
        "SELECT ?, 'paused', ?, fingerprint, settings, ?, ? FROM runs WHERE run_id = ?",
        [new_run_id, reason, now, now, run_id],
    )
    tables = (
        ("programs", _PROGRAM_COLUMNS),
        ("steps", _STEP_COLUMNS),
        ("proposals", _PROPOSAL_COLUMNS),
        ("rollouts", _ROLLOUT_COLUMNS),
    )
    for table, columns in tables:
        # The choice of a winner belongs to the whole run: the fork's own final rollouts are still to come.
        kept = "AND phase <> 'final'" if table == "rollouts" else ""
        db.execute(
            f"INSERT INTO {table} (run_id, {columns}) SELECT ?, {columns} FROM {table} "
            f"WHERE run_id = ? AND step < ? {kept}",
            [new_run_id, run_id, at],
        )
    db.execute("DELETE FROM tallies WHERE run_id = ?", [new_run_id])
    db.execute(
        f"INSERT INTO tallies SELECT run_id, step, phase, program, COUNT(*), {ROLLOUT_SUMS} FROM rollouts "
        "WHERE run_id = ? GROUP BY step, phase, program",
        [new_run_id],
    )
    event = RunForked(source=run_id, steps=at)
    db.execute(
        "INSERT INTO events VALUES (?, 1, ?, ?, ?)", [new_run_id, now, type(event).__name__, dumps(to_json(event))]
    )
