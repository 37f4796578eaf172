"""Queries about rollouts: those of a program, what went wrong, and another program's on the same example."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simba_actors.search.rollout import STUDENT_LM, Rollout, RolloutKey, TraceStep
from simba_actors.store.encoding import INTENT_COLUMNS, RESULT_COLUMNS, dumps, rollout_records
from simba_actors.store.records import RolloutRecord

FAILURES_COUNTED = 1_000
"""Maximum number of program failures that `failures` counts by their error."""

ROLLOUTS_WITH_CALLS = 3
"""Rollouts of a program in which `stored_calls` looks for calls."""


@dataclass(frozen=True, slots=True)
class RolloutFilter:
    """Filter for the rollouts of a program. Every condition that is set must hold."""

    failed: bool = False
    """Only program failures."""
    at_most: float | None = None
    """Only scores of at most this."""
    below: float | None = None
    """Only scores below this."""
    text: str | None = None
    """Only rollouts whose inputs, outputs, feedback or error contain this, in any case."""
    limit: int = 50
    """Maximum number of rollouts."""
    skip: int = 0
    """Number of matching rollouts to leave out first."""


def rollouts_of(
    db: sqlite3.Connection, run_id: str, program: int, which: RolloutFilter | None = None
) -> list[RolloutRecord]:
    """Return rollouts of a program that have a result, worst score first."""
    wanted = which or RolloutFilter()
    rows = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE run_id = :run AND program = :program "
        "AND outcome IS NOT NULL AND (NOT :failed OR outcome <> 'scored') "
        "AND (:at_most IS NULL OR score <= :at_most) AND (:below IS NULL OR score < :below) "
        "ORDER BY score, outcome, step, phase, position",
        {
            "run": run_id,
            "program": program,
            "failed": wanted.failed,
            "at_most": wanted.at_most,
            "below": wanted.below,
        },
    )
    found: list[RolloutRecord] = []
    skipped = 0
    for row in rows:
        (record,) = rollout_records(db, [row])
        if wanted.text is not None and wanted.text.casefold() not in _text_of(record).casefold():
            continue
        if skipped < wanted.skip:
            skipped += 1
            continue
        found.append(record)
        if len(found) >= wanted.limit:
            break
    return found


def keys_with_result(db: sqlite3.Connection, run_id: str, known: Mapping[int, int]) -> list[RolloutKey]:
    """Return the keys of rollouts that have a result: by step, the finals last, as they were planned.

    Steps that have as many of them as `known` says are left out.
    """
    done = db.execute("SELECT step, SUM(done) FROM tallies WHERE run_id = ? GROUP BY step", [run_id])
    steps = [step for step, count in done if count != known.get(step, 0)]
    rows = db.execute(
        "SELECT step, phase, position FROM rollouts WHERE run_id = ? AND outcome IS NOT NULL "
        "AND step IN (SELECT value FROM json_each(?)) ORDER BY step < 0, step, phase = 'evaluate', position",
        [run_id, dumps(steps)],
    )
    return [RolloutKey(*row) for row in rows]


def rollouts_with_keys(db: sqlite3.Connection, run_id: str, keys: Sequence[RolloutKey]) -> list[RolloutRecord]:
    """Return the rollouts of `keys`, in that order."""
    rows = [
        db.execute(
            f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts "
            "WHERE run_id = ? AND step = ? AND phase = ? AND position = ?",
            [run_id, key.step, key.phase, key.position],
        ).fetchone()
        for key in keys
    ]
    return rollout_records(db, rows)


def stored_calls(db: sqlite3.Connection, run_id: str, programs: Iterable[int]) -> dict[str, TraceStep]:
    """Return a call of each predictor, with its outputs, from the first of `programs` that has one."""
    found: dict[str, TraceStep] = {}
    for program in programs:
        rows = db.execute(
            f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts "
            f"WHERE run_id = ? AND program = ? AND outcome IS NOT NULL LIMIT {ROLLOUTS_WITH_CALLS}",
            [run_id, program],
        )
        for record in rollout_records(db, rows):
            for call in record.trajectory.trace if record.trajectory is not None else ():
                if call.outputs:
                    found.setdefault(call.predictor, call)
    return found


def best_score(db: sqlite3.Connection, run_id: str) -> float:
    """Return the best score of any rollout of the run, or 1.0 if it has none."""
    # Tallies tell quickly whether all scores are 0 or 1. Otherwise each rollout has to be read.
    graded, right = db.execute(
        "SELECT TOTAL(scores <> squares), TOTAL(scores) FROM tallies WHERE run_id = ?", [run_id]
    ).fetchone()
    if right and not graded:
        return 1.0
    (best,) = db.execute("SELECT MAX(score) FROM rollouts WHERE run_id = ?", [run_id]).fetchone()
    return 1.0 if best is None else float(best)


def counterparts(
    db: sqlite3.Connection, run_id: str, rollouts: Sequence[Rollout], program: int
) -> list[RolloutRecord | None]:
    """Return, for each of `rollouts`, one of `program` on the same example, with the student's LM if possible."""
    rows = db.execute(
        "SELECT split, example, model ->> 0 <> :lm, step, phase, position FROM rollouts "
        "WHERE run_id = :run AND program = :program AND outcome IS NOT NULL "
        "AND split || example IN (SELECT value FROM json_each(:examples))",
        {
            "run": run_id,
            "program": program,
            "lm": STUDENT_LM,
            "examples": dumps([f"{rollout.split}{rollout.example}" for rollout in rollouts]),
        },
    )
    found: dict[tuple[str, int], list[tuple[bool, RolloutKey]]] = {}
    for split, example, other_lm, *key in rows:
        found.setdefault((split, example), []).append((bool(other_lm), RolloutKey(*key)))
    records: list[RolloutRecord | None] = []
    for rollout in rollouts:
        candidates = found.get((rollout.split, rollout.example), [])
        # Of several, the first in the same phase. In SQL, an order would have each rollout of the run read.
        best = min(candidates, key=lambda each: _precedence(*each, rollout.key.phase), default=None)
        records.append(None if best is None else rollouts_with_keys(db, run_id, [best[1]])[0])
    return records


def _precedence(other_lm: bool, key: RolloutKey, phase: str) -> tuple[bool, bool, int, int]:
    return other_lm, key.phase != phase, key.step, key.position


def failures(db: sqlite3.Connection, run_id: str) -> list[tuple[str, int, int]]:
    """Return the errors of the newest program failures, most frequent first.

    Each error comes with how often it occurred and the number of a program that raised it.
    """
    rows = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE run_id = :run AND outcome = 'program_failure' "
        "AND step IN (SELECT step FROM tallies WHERE run_id = :run AND failures > 0) "
        f"ORDER BY step DESC, phase, position LIMIT {FAILURES_COUNTED}",
        {"run": run_id},
    )
    counts: dict[str, list[int]] = {}
    for record in rollout_records(db, rows):
        error = record.trajectory.error if record.trajectory is not None else None
        entry = counts.setdefault(error or "no error was kept", [0, record.rollout.program])
        entry[0] += 1
    return sorted(((error, count, program) for error, (count, program) in counts.items()), key=lambda e: -e[1])


def _text_of(record: RolloutRecord) -> str:
    trajectory = record.trajectory
    if trajectory is None:
        return ""
    parts: list[Any] = [trajectory.error or "", *trajectory.feedback.values(), *(trajectory.prediction or {}).values()]
    for call in trajectory.trace:
        parts += [*call.inputs.values(), *call.outputs.values()]
    return "\n".join(map(str, parts))
