"""Queries about scores: of programs, of the best one, and of the best one at each step with what was spent by then."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.search.rollout import FINAL_STEP, STUDENT, STUDENT_LM
from simba_actors.search.statistics.intervals import mean_interval
from simba_actors.store.encoding import dumps, loads

DIGITS = 12
"""Decimal places of a score."""


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
        """Whether this is the score of the student itself."""
        return self.program == STUDENT

    def __str__(self) -> str:
        return f"{self.score:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class StepSpending:
    """Usage and findings of a run at the end of a step."""

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
    """Score so far of the program that was the best by then; None if there was none."""


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


def spending_by_step(db: sqlite3.Connection, run_id: str, steps: Collection[int] | None = None) -> list[StepSpending]:
    """Return what the run had spent and found at the end of each closed step, in order: of `steps`, or of all."""
    chosen = "" if steps is None else "AND step IN (SELECT value FROM json_each(:steps)) "
    rows = db.execute(
        "SELECT step, result ->> '$.best[0]', progress FROM steps "
        f"WHERE run_id = :run AND progress IS NOT NULL {chosen}ORDER BY step",
        {"run": run_id, "steps": dumps(list(steps or ()))},
    ).fetchall()
    variance = _variance(db, run_id)
    scored = _sums_by_step(db, run_id, {STUDENT, *(best for _, best, _ in rows if best is not None)})
    sums: dict[int, tuple[int, float, float]] = {}
    found: list[StepSpending] = []
    for step, best, progress in rows:
        while scored and scored[0][0] <= step:
            _, program, *own = scored.popleft()
            sums[program] = _sum(sums.get(program, (0, 0.0, 0.0)), own)
        known = [None if n not in sums else Standing.of_sums(n, sums[n], variance) for n in (best, STUDENT)]
        data = loads(progress)
        calls, prompt, completion, cost = data["usage"]
        tokens = None if prompt is None or completion is None else prompt + completion
        found.append(StepSpending(step, calls, tokens, cost, data["seconds"], _better(*known)))
    return found


def _sums_by_step(db: sqlite3.Connection, run_id: str, programs: set[int]) -> deque[tuple[int, int, int, float, float]]:
    """Return steps with a program and the number, sum and sum of squares of its scores with the student's LM."""
    rows = db.execute(
        "SELECT step, program, SUM(done), SUM(scores), SUM(squares) FROM tallies WHERE run_id = ? AND lm = ? "
        "AND step >= 0 AND done > 0 AND program IN (SELECT value FROM json_each(?)) "
        "GROUP BY step, program ORDER BY step, program",
        [run_id, STUDENT_LM, dumps(sorted(programs))],
    )
    return deque(rows)


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
    """Return `best`, or the student if its score is higher. The search may prefer `best`, but has not proved it yet."""
    if best is None or student is None:
        return best or student
    return best if best.score >= student.score else student


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
