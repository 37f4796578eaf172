"""Queries for people: which run is meant, how good its best program is, what went wrong, what it has spent."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from simba_actors.errors import RunError, UnknownProgramError, UnknownRunError
from simba_actors.search.rollout import FINAL_STEP, STUDENT, STUDENT_LM, Rollout, RolloutKey
from simba_actors.search.statistics.intervals import mean_interval
from simba_actors.store.encoding import INTENT_COLUMNS, RESULT_COLUMNS, loads, rollout_records
from simba_actors.store.records import RolloutRecord

LATEST = "latest"
"""Names the newest run."""

FAILURES_COUNTED = 1_000
"""Most program failures that `failures` counts by their error."""

RUNS_NAMED = 5
"""Most runs that an error message lists."""

EstimateKind: TypeAlias = Literal["TrendEstimated", "OutlookEstimated", "BudgetForecast"]
"""Events in which a run says what it expects."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Estimated score of a program from all evidence, with a 95 % interval."""

    program: int
    """The program's number in the pool."""
    score: float
    """The expected mean score."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    rollouts: int
    """Number of scored rollouts of the program."""

    def __str__(self) -> str:
        return f"{self.score:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Spending:
    """Spending and findings of a run at the end of a step."""

    step: int
    """The step, counted from 0."""
    calls: int
    """LM calls so far."""
    tokens: int | None
    """Tokens so far, or None if unknown."""
    cost: float | None
    """US dollars so far, or None if unknown."""
    seconds: float
    """Seconds that the run had been up, without pauses."""
    best: Standing | None
    """The program that seemed best by then."""


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


def find_run_id(db: sqlite3.Connection, name: str | None) -> str:
    """Return the run that `name` means: its full name, the start of it, or `latest`. None means the only run.

    Raises:
        UnknownRunError: No run has that name.
        RunError: The name is ambiguous, or it is None and there is not exactly one run.
    """
    runs = [run_id for (run_id,) in db.execute("SELECT run_id FROM runs ORDER BY created DESC, run_id DESC")]
    if name is not None and name in runs:
        return name
    if not runs:
        raise UnknownRunError("the store has no runs yet: start one with Optimizer.start(config)")
    if name == LATEST:
        return runs[0]
    if name is None:
        if len(runs) == 1:
            return runs[0]
        raise RunError(f"the store has {len(runs)} runs ({_listed(runs)}): name one, or use {LATEST}")
    matching = [run_id for run_id in runs if run_id.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise RunError(f"{name!r} is the start of {len(matching)} runs ({_listed(matching)}): give more of it")
    raise UnknownRunError(f"the store has no run {name!r}; it has {_listed(runs)}")


def best_standing(db: sqlite3.Connection, run_id: str) -> Standing | None:
    """Return the standing of the program that seems best, given all evidence, or None before there is any.

    Of a finished run that is the winner; before, the best program as of the last closed step.
    """
    ranking = _ranking(db, run_id)
    (latest,) = db.execute(
        "SELECT (SELECT result ->> '$.best' FROM steps WHERE run_id = :run AND result IS NOT NULL "
        "ORDER BY step DESC LIMIT 1)",
        {"run": run_id},
    ).fetchone()
    quality = _quality(db, run_id, loads(latest))
    if not ranking:
        return quality
    number, score = next(iter(ranking.items()))
    if quality is not None and quality.program == number and quality.low <= score <= quality.high:
        return Standing(number, score, quality.low, quality.high, quality.rollouts)
    known = standing(db, run_id, number)
    if known is None:
        return quality
    return Standing(number, score, min(known.low, score), max(known.high, score), known.rollouts)


def standing(db: sqlite3.Connection, run_id: str, program: int) -> Standing | None:
    """Return the standing of a program by its own rollouts with the student's LM, or None if it has none.

    If it has run in finals that decide by their own scores, on a valset or in `dspy.SIMBA`'s way, only those count.
    """
    of_finals = validated(db, run_id) or _policy(db, run_id) == "dspy"
    for condition in ("phase = 'final'", "TRUE") if of_finals else ("TRUE",):
        count, scores, squares = db.execute(
            "SELECT COUNT(*), TOTAL(score), TOTAL(score * score) FROM rollouts WHERE run_id = ? AND program = ? "
            f"AND outcome IS NOT NULL AND model ->> 0 = ? AND {condition}",
            [run_id, program, STUDENT_LM],
        ).fetchone()
        if count:
            return Standing(program, scores / count, *mean_interval(count, scores, squares), count)
    return None


def validated(db: sqlite3.Connection, run_id: str) -> bool:
    """Return whether finals ran on the valset."""
    (found,) = db.execute(
        "SELECT EXISTS (SELECT 1 FROM rollouts WHERE run_id = ? AND step = ? AND split = 'val')", [run_id, FINAL_STEP]
    ).fetchone()
    return bool(found)


def find_program(db: sqlite3.Connection, run_id: str, name: str | None) -> int:
    """Return the program that `name` means: its number, `student`, or `best`, which is also the default.

    Raises:
        UnknownProgramError: The run has no such program.
    """
    if name in (None, "best"):
        best = best_standing(db, run_id)
        return STUDENT if best is None else best.program
    if name == "student":
        return STUDENT
    (newest,) = db.execute("SELECT MAX(number) FROM programs WHERE run_id = ?", [run_id]).fetchone()
    if not (name.isdecimal() and len(name) < 19 and int(name) <= (newest or 0)):
        raise UnknownProgramError(
            f"run {run_id!r} has no program {name}; give a number up to {newest or 0}, `best` or `student`"
        )
    return int(name)


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


def keys_with_result(db: sqlite3.Connection, run_id: str) -> list[RolloutKey]:
    """Return the keys of all rollouts that have a result: by step, the finals last, as they were planned."""
    rows = db.execute(
        "SELECT step, phase, position FROM rollouts WHERE run_id = ? AND outcome IS NOT NULL "
        "ORDER BY step < 0, step, phase = 'evaluate', position",
        [run_id],
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


def best_score(db: sqlite3.Connection, run_id: str) -> float:
    """Return the best score of any rollout of the run, or 1.0 if it has none."""
    (best,) = db.execute("SELECT MAX(score) FROM rollouts WHERE run_id = ?", [run_id]).fetchone()
    return 1.0 if best is None else float(best)


def counterpart(db: sqlite3.Connection, run_id: str, rollout: Rollout, program: int) -> RolloutRecord | None:
    """Return a rollout of `program` on the same example as `rollout`, with the student's LM if possible, or None."""
    row = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE run_id = :run AND program = :program "
        "AND split = :split AND example = :example AND outcome IS NOT NULL "
        "ORDER BY model ->> 0 <> :lm, phase = :phase DESC, step, position LIMIT 1",
        {
            "run": run_id,
            "program": program,
            "split": rollout.split,
            "example": rollout.example,
            "lm": STUDENT_LM,
            "phase": rollout.key.phase,
        },
    ).fetchone()
    return None if row is None else rollout_records(db, [row])[0]


def failures(db: sqlite3.Connection, run_id: str) -> list[tuple[str, int, int]]:
    """Return the errors of the newest program failures, most frequent first.

    Each error comes with how often it occurred and the number of a program that raised it.
    """
    rows = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE run_id = ? AND outcome = 'program_failure' "
        f"ORDER BY step DESC, phase, position LIMIT {FAILURES_COUNTED}",
        [run_id],
    )
    counts: dict[str, list[int]] = {}
    for record in rollout_records(db, rows):
        error = record.trajectory.error if record.trajectory is not None else None
        entry = counts.setdefault(error or "no error was kept", [0, record.rollout.program])
        entry[0] += 1
    return sorted(((error, count, program) for error, (count, program) in counts.items()), key=lambda e: -e[1])


def spending_by_step(db: sqlite3.Connection, run_id: str) -> list[Spending]:
    """Return what the run had spent and found at the end of each closed step, in order."""
    rows = db.execute(
        "SELECT step, result ->> '$.best', progress FROM steps WHERE run_id = ? AND progress IS NOT NULL ORDER BY step",
        [run_id],
    )
    found: list[Spending] = []
    for step, best, progress in rows:
        data = loads(progress)
        calls, prompt, completion, cost = data["usage"]
        tokens = None if prompt is None or completion is None else prompt + completion
        found.append(Spending(step, calls, tokens, cost, data["seconds"], _quality(db, run_id, loads(best))))
    return found


def latest_estimate(db: sqlite3.Connection, run_id: str, kind: EstimateKind) -> dict[str, Any] | None:
    """Return the fields of the run's latest event of a kind, or None if there is none yet."""
    row = db.execute(
        "SELECT data FROM events WHERE run_id = ? AND kind = ? ORDER BY seq DESC LIMIT 1", [run_id, kind]
    ).fetchone()
    return None if row is None else cast("dict[str, Any]", loads(row[0]))


def objective_scores(db: sqlite3.Connection, run_id: str) -> dict[int, dict[str, float]]:
    """Return the finalists' scores by objective, the winner first. Empty if the run has one metric or no result."""
    (stored,) = db.execute("SELECT result FROM runs WHERE run_id = ?", [run_id]).fetchone()
    result = cast("dict[str, Any]", loads(stored) or {})
    scores = dict(result.get("scores") or [])
    return {number: scores[number] for number, _ in result.get("ranking", []) if number in scores}


def _quality(db: sqlite3.Connection, run_id: str, stored: Any) -> Standing | None:
    """Return the standing that a step's result has, as [program, mean, low, high]."""
    if stored is None:
        return None
    program, mean, low, high = stored
    (count,) = db.execute(
        "SELECT TOTAL(done) FROM tallies WHERE run_id = ? AND program = ?", [run_id, program]
    ).fetchone()
    return Standing(program, mean, low, high, int(count))


def _ranking(db: sqlite3.Connection, run_id: str) -> dict[int, float]:
    """Return the scores by which a finished run ranked its finalists, the winner first; empty before the result."""
    (stored,) = db.execute("SELECT result FROM runs WHERE run_id = ?", [run_id]).fetchone()
    return {} if stored is None else dict(loads(stored)["ranking"])


def _policy(db: sqlite3.Connection, run_id: str) -> str:
    (policy,) = db.execute("SELECT settings ->> '$.policy' FROM runs WHERE run_id = ?", [run_id]).fetchone()
    return policy or "dspy"


def _text_of(record: RolloutRecord) -> str:
    trajectory = record.trajectory
    if trajectory is None:
        return ""
    parts: list[Any] = [trajectory.error or "", *trajectory.feedback.values(), *(trajectory.prediction or {}).values()]
    for call in trajectory.trace:
        parts += [*call.inputs.values(), *call.outputs.values()]
    return "\n".join(map(str, parts))


def _listed(runs: list[str]) -> str:
    more = f" and {len(runs) - RUNS_NAMED} more" if len(runs) > RUNS_NAMED else ""
    return ", ".join(runs[:RUNS_NAMED]) + more
