"""Queries for people: which run is meant, how good its best program is, what went wrong, what it has spent."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from simba_actors.errors import RunError, UnknownProgramError, UnknownRunError
from simba_actors.search.rollout import FINAL_STEP, STUDENT, STUDENT_LM, Rollout, RolloutKey, TraceStep
from simba_actors.search.statistics.intervals import mean_interval
from simba_actors.store.encoding import INTENT_COLUMNS, RESULT_COLUMNS, dumps, loads, rollout_records
from simba_actors.store.records import RolloutRecord

LATEST = "latest"
"""Names the newest run."""

FAILURES_COUNTED = 1_000
"""Most program failures that `failures` counts by their error."""

DIGITS = 12
"""Decimal places of a score."""

ROLLOUTS_WITH_CALLS = 3
"""Rollouts of a program in which `stored_calls` looks for calls."""

RUNS_NAMED = 5
"""Most runs that an error message lists."""

EstimateKind: TypeAlias = Literal["TrendEstimated", "OutlookEstimated", "BudgetForecast"]
"""Events in which a run says what it expects."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The score of a program: the mean of its own rollouts, with a 95 % interval.

    This is the score that the terminal, the pages and results show, of every program. The search's
    own estimate, which decides what is best, also draws on the rollouts of related programs; see `Quality`.
    """

    program: int
    """The program's number in the pool; 0 is the student."""
    score: float
    """The mean score of its rollouts with the student's LM."""
    low: float
    """Lower end of the 95 % interval: Wilson's for scores from 0 to 1."""
    high: float
    """Upper end of the 95 % interval."""
    rollouts: int
    """Number of rollouts behind the score."""

    @classmethod
    def of_sums(cls, program: int, sums: tuple[int, float, float], variance_of_all: float) -> Standing:
        """Return the standing for a number of scores, their sum and the sum of their squares.

        `variance_of_all` is that of the run's scores. Sums of floats depend on the order in which replies arrived, in
        their last digits, which are rounded away.
        """
        count, scores, _ = sums
        low, high = mean_interval(*sums, variance_of_all)
        return cls(program, round(scores / count, DIGITS), round(low, DIGITS), round(high, DIGITS), count)

    @property
    def is_student(self) -> bool:
        return self.program == STUDENT

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
    """The best program by then, with its score by then."""


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
    """Return the score of the best program, or None before there is any.

    That is the winner of a finished run. Before, it is the program that the search thought best when the last step
    closed, or the student as long as the student's own rollouts have the better mean.
    """
    return best_and_student(db, run_id)[0]


def best_and_student(db: sqlite3.Connection, run_id: str) -> tuple[Standing | None, Standing | None]:
    """Return what `best_standing` returns, and the score of the student."""
    ranking = _ranking(db, run_id)
    if ranking:
        winner = next(iter(ranking))
        known = standings(db, run_id, {winner, STUDENT})
        return known.get(winner), known.get(STUDENT)
    (found,) = db.execute(
        "SELECT (SELECT result ->> '$.best[0]' FROM steps WHERE run_id = :run AND result IS NOT NULL "
        "ORDER BY step DESC LIMIT 1)",
        {"run": run_id},
    ).fetchone()
    latest = STUDENT if found is None else int(found)
    known = standings(db, run_id, {latest, STUDENT})
    return _better(known.get(latest), known.get(STUDENT)), known.get(STUDENT)


def standing(db: sqlite3.Connection, run_id: str, program: int) -> Standing | None:
    """Return the score of one program; see `standings`. None if it has no rollouts."""
    return standings(db, run_id, [program]).get(program)


def standings(db: sqlite3.Connection, run_id: str, among: Collection[int] | None = None) -> dict[int, Standing]:
    """Return the score of each program that has rollouts with the student's LM, by its number: of `among`, or of all.

    If a finished run chose its winner by final scores alone, on a valset or in `dspy.SIMBA`'s way, only those count
    for the programs that have them.
    """
    variance, sums = _variance(db, run_id), sums_of_scores(db, run_id, among)
    return {program: Standing.of_sums(program, own, variance) for program, own in sums.items()}


def sums_of_scores(
    db: sqlite3.Connection, run_id: str, among: Collection[int] | None = None
) -> dict[int, tuple[int, float, float]]:
    """Return the number, sum and sum of squares of the scores that `standings` are made from."""
    rows = db.execute(
        "SELECT program, phase = 'final', SUM(done), SUM(scores), SUM(squares) FROM tallies "
        "WHERE run_id = :run AND lm = :lm AND done > 0 "
        "AND (:among IS NULL OR program IN (SELECT value FROM json_each(:among))) "
        "GROUP BY program, phase = 'final' ORDER BY program, phase = 'final'",
        {"run": run_id, "lm": STUDENT_LM, "among": None if among is None else dumps(sorted(among))},
    )
    finals_alone = bool(_ranking(db, run_id)) and (validated(db, run_id) or _policy(db, run_id) == "dspy")
    sums: dict[int, tuple[int, float, float]] = {}
    for program, final, *own in rows:
        before = (0, 0.0, 0.0) if final and finals_alone else sums.get(program, (0, 0.0, 0.0))
        sums[program] = _sum(before, own)
    return sums


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


def spending_by_step(db: sqlite3.Connection, run_id: str) -> list[Spending]:
    """Return what the run had spent and found at the end of each closed step, in order."""
    rows = db.execute(
        "SELECT step, result ->> '$.best[0]', progress FROM steps "
        "WHERE run_id = ? AND progress IS NOT NULL ORDER BY step",
        [run_id],
    ).fetchall()
    variance = _variance(db, run_id)
    scored = _sums_by_step(db, run_id, {STUDENT, *(best for _, best, _ in rows if best is not None)})
    sums: dict[int, tuple[int, float, float]] = {}
    found: list[Spending] = []
    for step, best, progress in rows:
        for program, own in scored.pop(step, ()):
            sums[program] = _sum(sums.get(program, (0, 0.0, 0.0)), own)
        known = [None if n not in sums else Standing.of_sums(n, sums[n], variance) for n in (best, STUDENT)]
        data = loads(progress)
        calls, prompt, completion, cost = data["usage"]
        tokens = None if prompt is None or completion is None else prompt + completion
        found.append(Spending(step, calls, tokens, cost, data["seconds"], _better(*known)))
    return found


def _sums_by_step(
    db: sqlite3.Connection, run_id: str, programs: set[int]
) -> dict[int, list[tuple[int, tuple[int, float, float]]]]:
    """Return the number, sum and sum of squares of these programs' scores with the student's LM, by step."""
    rows = db.execute(
        "SELECT step, program, SUM(done), SUM(scores), SUM(squares) FROM tallies WHERE run_id = ? AND lm = ? "
        "AND step >= 0 AND done > 0 AND program IN (SELECT value FROM json_each(?)) GROUP BY step, program",
        [run_id, STUDENT_LM, dumps(sorted(programs))],
    )
    found: dict[int, list[tuple[int, tuple[int, float, float]]]] = {}
    for step, program, *own in rows:
        found.setdefault(step, []).append((program, _sum((0, 0.0, 0.0), own)))
    return found


def _variance(db: sqlite3.Connection, run_id: str) -> float:
    """Return the variance of all scores with the student's LM."""
    count, scores, squares = db.execute(
        "SELECT TOTAL(done), TOTAL(scores), TOTAL(squares) FROM tallies WHERE run_id = ? AND lm = ?",
        [run_id, STUDENT_LM],
    ).fetchone()
    return max(0.0, squares / count - (scores / count) ** 2) if count else 0.0


def _sum(sums: tuple[int, float, float], more: Sequence[float]) -> tuple[int, float, float]:
    return sums[0] + int(more[0]), sums[1] + more[1], sums[2] + more[2]


def _better(best: Standing | None, student: Standing | None) -> Standing | None:
    """Return `best`, or the student if its score is higher. The search may know better, but has yet to show it."""
    if best is None or student is None:
        return best or student
    return best if best.score >= student.score else student


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
