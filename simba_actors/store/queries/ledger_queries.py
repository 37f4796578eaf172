"""Queries of the ledger: the runs, programs, steps, rollouts and events that are stored.

`Reader` has them as methods and says what they return.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from simba_actors.errors import UnknownRunError
from simba_actors.search.buckets import Bucket, Sample, make_bucket
from simba_actors.search.rollout import JSON, ModelSpec, Outcome, Phase, RolloutKey, Split, Usage
from simba_actors.store.connection import path_of
from simba_actors.store.differences import States
from simba_actors.store.encoding import (
    EVENT_COLUMNS,
    INTENT_COLUMNS,
    PROGRAM_COLUMNS,
    PROPOSAL_COLUMNS,
    RESULT_COLUMNS,
    dumps,
    event_of,
    load_shared,
    loads,
    rollout_records,
)
from simba_actors.store.records import Position, Program, ProposalRecord, RolloutRecord, Run, Step

if TYPE_CHECKING:
    from simba_actors.events import Event, RunPaused
    from simba_actors.search.evidence import Score
    from simba_actors.search.progress import Progress, StepProgress

PROMPTS = "prompts"
"""Key under which the column of the settings keeps the prompt templates."""


def find_run(db: sqlite3.Connection, run_id: str) -> Run:
    """Return the run of that name. Raise UnknownRunError if there is none."""
    row = db.execute(f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id = ?", [run_id]).fetchone()
    if row is None:
        known = ", ".join(run.run_id for run in all_runs(db)) or "no runs"
        raise UnknownRunError(f"{path_of(db)} has no run {run_id!r}; it has {known}")
    return _run(row)


def all_runs(db: sqlite3.Connection) -> list[Run]:
    """Return all runs, the oldest first."""
    return [_run(row) for row in db.execute(f"SELECT {_RUN_COLUMNS} FROM runs ORDER BY created, run_id")]


def find_programs(db: sqlite3.Connection, run_id: str, numbers: Collection[int] | None = None) -> list[Program]:
    """Return the run's programs by number: all, or those of these `numbers` that there are."""
    chosen = "" if numbers is None else "AND number IN (SELECT value FROM json_each(:numbers)) "
    rows = db.execute(
        f"SELECT {PROGRAM_COLUMNS}, value FROM programs JOIN configurations USING (digest) "
        f"WHERE run_id = :run {chosen}ORDER BY number",
        {"run": run_id, "numbers": dumps(list(numbers or ()))},
    ).fetchall()
    configurations = load_shared(db, (row[-1] for row in rows))
    return [
        Program(number, digest, configuration, tuple(loads(parents)), strategy, step, loads(provenance))
        for (number, digest, parents, strategy, step, provenance, _), configuration in zip(
            rows, configurations, strict=True
        )
    ]


_RUN_COLUMNS = "run_id, status, reason, fingerprint, settings, result, created, updated"


def _run(row: Any) -> Run:
    run_id, status, reason, fingerprint, settings, result, created, updated = row
    shown = loads(settings)
    prompts = shown.pop(PROMPTS, {})
    return Run(run_id, status, reason, loads(fingerprint), shown, loads(result), created, updated, prompts)


def steps(db: sqlite3.Connection, run_id: str) -> list[Step]:
    rows = db.execute("SELECT step, plan, result FROM steps WHERE run_id = ? ORDER BY step", [run_id])
    return [Step(step, loads(plan), loads(result)) for step, plan, result in rows]


def position(db: sqlite3.Connection, run_id: str) -> Position:
    position, states = Position(), States()
    # All steps, one by one, since each has the changes of the policy's state alone.
    rows = db.execute("SELECT step, plan, result FROM steps WHERE run_id = ? ORDER BY step", [run_id])
    for step, plan, result in rows:
        stored: dict[str, JSON] = loads(plan)
        planned = states.of_plan(stored)
        if result is None:
            position.open_steps.append(Step(step, {**stored, "state": planned}, None))
        else:
            position.closed = states.of_result(step, loads(result), planned)
            position.steps_closed += 1
    return position


_PROGRESS_COLUMNS = "step, json_object('best', result -> '$.best', 'outlook', result -> '$.outlook'), progress"


def progress(db: sqlite3.Connection, run_id: str) -> Progress | None:
    from simba_actors.search.progress import stored_progress  # It takes numpy, which most readers never need.

    rows = db.execute(
        f"SELECT {_PROGRESS_COLUMNS} FROM steps WHERE run_id = ? AND progress IS NOT NULL ORDER BY step", [run_id]
    ).fetchall()
    return stored_progress((step, loads(result), loads(progress)) for step, result, progress in rows)


def last_progress(db: sqlite3.Connection, run_id: str) -> StepProgress | None:
    from simba_actors.search.progress import StepProgress  # As above.

    row = db.execute(
        f"SELECT {_PROGRESS_COLUMNS} FROM steps WHERE run_id = ? AND progress IS NOT NULL ORDER BY step DESC LIMIT 1",
        [run_id],
    ).fetchone()
    return None if row is None else StepProgress.from_store(row[0], loads(row[1]), loads(row[2]))


def proposals(db: sqlite3.Connection, run_id: str, step: int) -> list[ProposalRecord]:
    rows = db.execute(
        f"SELECT {PROPOSAL_COLUMNS} FROM proposals WHERE run_id = ? AND step = ? ORDER BY slot", [run_id, step]
    )
    return [
        ProposalRecord(step, index, loads(intent), program, reason, Usage(*usage))
        for step, index, intent, program, reason, *usage in rows
    ]


def rollouts(db: sqlite3.Connection, run_id: str, step: int, phase: Phase, program: int | None) -> list[RolloutRecord]:
    which = "run_id = ? AND step = ? AND phase = ? AND (? IS NULL OR program = ?)"
    values = [run_id, step, phase, program, program]
    # As one row: Python's sqlite3 releases the interpreter for each row, and a busy host gives it back after 5 ms.
    planned = db.execute(
        f"SELECT json_group_array(json_array({INTENT_COLUMNS})) FROM rollouts WHERE {which} AND outcome IS NULL",
        values,
    ).fetchone()
    done = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE {which} AND outcome IS NOT NULL", values
    )
    return sorted(rollout_records(db, [*loads(planned[0]), *done]), key=_position)


def _position(record: RolloutRecord) -> int:
    return record.rollout.key.position


def buckets(db: sqlite3.Connection, run_id: str, step: int, examples: Sequence[int]) -> dict[int, Bucket]:
    rows = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE run_id = ? AND step = ? AND phase = 'sample' "
        "AND outcome IS NOT NULL AND example IN (SELECT value FROM json_each(?)) ORDER BY position",
        [run_id, step, dumps(examples)],
    )
    samples: dict[int, list[Sample]] = {}
    for record in rollout_records(db, rows):
        if record.trajectory is not None:
            samples.setdefault(record.rollout.example, []).append(Sample(record.rollout, record.trajectory))
    return {example: make_bucket(example, own) for example, own in samples.items()}


_OBJECTIVE_SCORE = "COALESCE(json_extract(trajectory, '$.feedback.' || :objective), 0.0)"


def scores(db: sqlite3.Connection, run_id: str, objective: str | None = None) -> list[Score]:
    from simba_actors.search.evidence import Score  # It needs numpy, which reading alone does not.

    score = "score" if objective is None else _OBJECTIVE_SCORE
    rows = db.execute(
        f"SELECT step, phase, position, program, example, {score}, model, split, outcome FROM rollouts "
        "WHERE run_id = :run AND outcome IS NOT NULL ORDER BY step, phase, position",
        {"run": run_id, "objective": objective},
    )
    models: dict[str, ModelSpec] = {}
    return [
        Score(
            RolloutKey(step, phase, position),
            program,
            example,
            score,
            _model(model, models),
            split,
            failed=outcome == Outcome.PROGRAM_FAILURE,
        )
        for step, phase, position, program, example, score, model, split, outcome in rows
    ]


def _model(text: str, known: dict[str, ModelSpec]) -> ModelSpec:
    if text not in known:
        known[text] = ModelSpec(*loads(text))
    return known[text]


def rollouts_done(db: sqlite3.Connection, run_id: str) -> int:
    return int(db.execute("SELECT TOTAL(done) FROM tallies WHERE run_id = ?", [run_id]).fetchone()[0])


def events(db: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[Event]:
    rows = db.execute(
        f"SELECT {EVENT_COLUMNS} FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?", [run_id, after, limit]
    )
    events = (event_of(run_id, row) for row in rows)
    return [event for event in events if event is not None]


def set_aside(db: sqlite3.Connection, run_id: str) -> list[tuple[Split, int]]:
    return db.execute(
        "SELECT data ->> 'split', data ->> 'example' FROM events WHERE run_id = ? AND kind = 'ExampleSetAside'",
        [run_id],
    ).fetchall()


def last_pause(db: sqlite3.Connection, run_id: str) -> RunPaused | None:
    from simba_actors.events import RunPaused

    row = db.execute(
        "SELECT data FROM events WHERE run_id = ? AND kind = 'RunPaused' ORDER BY seq DESC LIMIT 1", [run_id]
    ).fetchone()
    return None if row is None else RunPaused(**loads(row[0]))


def was_stopped(db: sqlite3.Connection, run: Run) -> bool:
    """Return whether a request has stopped the run, and neither a request nor a new start has continued it."""
    paused = last_pause(db, run.run_id) if run.status == "paused" else None
    return paused is not None and paused.cause == "stop"


def last_event(db: sqlite3.Connection, run_id: str) -> int:
    return int(db.execute("SELECT COALESCE(MAX(seq), 0) FROM events WHERE run_id = ?", [run_id]).fetchone()[0])
