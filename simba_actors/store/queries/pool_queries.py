"""Queries about a pool: how good its programs are, where they come from, how they did example by example."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.errors import UnknownProgramError
from simba_actors.search.rollout import Phase, Split
from simba_actors.search.statistics.intervals import mean_interval
from simba_actors.store.encoding import INTENT_COLUMNS, RESULT_COLUMNS, dumps, loads, rollout_records
from simba_actors.store.queries.ledger_queries import find_programs, find_run
from simba_actors.store.queries.score_queries import Standing, standings, sums_of_scores
from simba_actors.store.records import Program, RolloutRecord

EXAMPLES_SHOWN = 200
"""Maximum number of rollouts that are listed of one program."""


@dataclass(frozen=True, slots=True)
class MeanScore:
    """A mean of scores with its 95 % interval."""

    mean: float
    count: int
    """Number of scores."""
    low: float
    high: float

    @classmethod
    def of_sums(cls, count: int, scores: float, squares: float) -> MeanScore | None:
        """Return the mean for the number of scores, their sum and the sum of their squares; None without scores."""
        return cls(scores / count, count, *mean_interval(count, scores, squares)) if count else None


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """A program without its configuration."""

    number: int
    """The program's number in the pool; 0 is the student."""
    digest: str
    parents: tuple[int, ...]
    strategy: str
    step: int
    batch: MeanScore | None
    """Its score as a candidate, on its own step's examples."""
    final: MeanScore | None
    """Its score in the rollouts that the winner was chosen by."""
    standing: Standing | None
    """Its score by all its rollouts; see `score_queries.standings`."""
    rank: int | None
    """Its place among the finalists of a finished run, counted from 1; None for other programs."""

    @property
    def score(self) -> float | None:
        return None if self.standing is None else self.standing.score


@dataclass(frozen=True, slots=True)
class ExampleScore:
    """One rollout of a program, without its trajectory. `outcome` and `score` are None while it has no result."""

    step: int
    phase: Phase
    split: Split
    example: int
    outcome: str | None
    score: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Lesson:
    """Evidence that a program was made from: two rollouts of one bucket, of which one did better."""

    step: int
    example: int
    better: RolloutRecord
    worse: RolloutRecord


def pool(db: sqlite3.Connection, run_id: str, numbers: Collection[int] | None = None) -> list[PoolEntry]:
    """Return programs of the run with their scores, by number: those of `numbers`, or all."""
    among = None if numbers is None else dumps(list(numbers))
    scores, known = _scores_by_program(db, run_id, among), standings(db, run_id, numbers)
    ranks = {program: rank for rank, program in enumerate(_finalists(db, run_id), 1)}
    rows = db.execute(
        "SELECT number, digest, parents, strategy, step FROM programs WHERE run_id = :run "
        "AND (:among IS NULL OR number IN (SELECT value FROM json_each(:among))) ORDER BY number",
        {"run": run_id, "among": among},
    )
    return [
        PoolEntry(
            number,
            digest,
            tuple(loads(parents)),
            strategy,
            step,
            scores.get((number, "evaluate")),
            scores.get((number, "final")),
            known.get(number),
            ranks.get(number),
        )
        for number, digest, parents, strategy, step in rows
    ]


def ranking(db: sqlite3.Connection, run_id: str) -> list[int]:
    """Return the numbers of all programs, best first: the finalists as the run ranked them, then the others by score.

    Programs without a score come last.
    """
    finalists, sums = _finalists(db, run_id), sums_of_scores(db, run_id)
    means = {program: total / count for program, (count, total, _) in sums.items()}
    rows = db.execute("SELECT number FROM programs WHERE run_id = ? ORDER BY number", [run_id])
    others = [number for (number,) in rows if number not in finalists]
    return [*finalists, *sorted(others, key=lambda number: -means.get(number, -math.inf))]


def parents_of_all(db: sqlite3.Connection, run_id: str) -> dict[int, tuple[int, ...]]:
    """Return the parents of every program of the run, by its number."""
    rows = db.execute("SELECT number, parents FROM programs WHERE run_id = ? ORDER BY number", [run_id])
    return {number: tuple(loads(parents)) for number, parents in rows}


def program(db: sqlite3.Connection, run_id: str, number: int) -> Program:
    """Return one program. Raise UnknownRunError or UnknownProgramError if there is none."""
    for found in find_programs(db, run_id, [number]):
        return found
    find_run(db, run_id)
    (newest,) = db.execute("SELECT MAX(number) FROM programs WHERE run_id = ?", [run_id]).fetchone()
    raise UnknownProgramError(f"run {run_id!r} has no program {number}; its newest is {newest}")


def example_scores(db: sqlite3.Connection, run_id: str, program: int) -> list[ExampleScore]:
    """Return rollouts of the program, at most `EXAMPLES_SHOWN`, the final ones first."""
    rows = db.execute(
        "SELECT step, phase, split, example, outcome, score, seconds FROM rollouts "
        "WHERE run_id = ? AND program = ? LIMIT ?",
        [run_id, program, EXAMPLES_SHOWN],
    )
    found = [ExampleScore(*row) for row in rows]
    return sorted(found, key=lambda score: (score.phase != "final", score.step, score.example))


def bucket(db: sqlite3.Connection, run_id: str, step: int, example: int) -> list[RolloutRecord]:
    """Return the step's sampled rollouts of one example that have a result, best score first."""
    rows = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE run_id = ? AND step = ? "
        "AND phase = 'sample' AND example = ? AND outcome IS NOT NULL ORDER BY score DESC, position",
        [run_id, step, example],
    )
    return rollout_records(db, rows)


def children(db: sqlite3.Connection, run_id: str, program: int) -> list[int]:
    """Return the numbers of the programs that were made from this one."""
    rows = db.execute(
        "SELECT number FROM programs WHERE run_id = ? AND number > ? "
        "AND EXISTS (SELECT 1 FROM json_each(parents) WHERE value = ?) ORDER BY number",
        [run_id, program, program],
    )
    return [number for (number,) in rows]


def proposals_from(db: sqlite3.Connection, run_id: str, step: int, example: int) -> list[tuple[int | None, str | None]]:
    """Return, for each of the step's proposals that learned from this example, its program, or why there is none."""
    rows = db.execute(
        "SELECT program, reason FROM proposals WHERE run_id = ? AND step = ? "
        "AND EXISTS (SELECT 1 FROM json_each(intent, '$.examples') WHERE value = ?) ORDER BY slot",
        [run_id, step, example],
    )
    return [(program, reason) for program, reason in rows]


def examples_of_step(db: sqlite3.Connection, run_id: str, step: int) -> list[tuple[int, int, float, float]]:
    """Return each sampled example of a step, its number of trajectories, and their lowest and highest score."""
    rows = db.execute(
        "SELECT example, COUNT(*), MIN(score), MAX(score) FROM rollouts "
        "WHERE run_id = ? AND step = ? AND phase = 'sample' AND outcome IS NOT NULL "
        "GROUP BY example ORDER BY MAX(score) - MIN(score) DESC, example",
        [run_id, step],
    )
    return [tuple(row) for row in rows]


def lessons(db: sqlite3.Connection, run_id: str, program: Program) -> list[Lesson]:
    """Return what the program was made from; empty for the student itself."""
    provenance = cast("dict[str, Any]", program.provenance or {})
    pairs = zip(provenance.get("examples", ()), provenance.get("rollouts", ()), strict=True)
    return [
        Lesson(
            program.step, example, _sample(db, run_id, program.step, better), _sample(db, run_id, program.step, worse)
        )
        for example, (better, worse) in pairs
    ]


def _sample(db: sqlite3.Connection, run_id: str, step: int, position: int) -> RolloutRecord:
    rows = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts "
        "WHERE run_id = ? AND step = ? AND phase = 'sample' AND position = ?",
        [run_id, step, position],
    )
    return rollout_records(db, rows)[0]


def _scores_by_program(
    db: sqlite3.Connection, run_id: str, among: str | None
) -> dict[tuple[int, Phase], MeanScore | None]:
    rows = db.execute(
        "SELECT program, phase, SUM(done), SUM(scores), SUM(squares) FROM tallies "
        "WHERE run_id = :run AND phase IN ('evaluate', 'final') AND done > 0 "
        "AND (:among IS NULL OR program IN (SELECT value FROM json_each(:among))) GROUP BY program, phase",
        {"run": run_id, "among": among},
    )
    return {
        (program, phase): MeanScore.of_sums(done, scores, squares) for program, phase, done, scores, squares in rows
    }


def _finalists(db: sqlite3.Connection, run_id: str) -> list[int]:
    """Return the finalists, the winner first; empty while the run has no result."""
    rows = db.execute(
        "SELECT value ->> 0 FROM runs, json_each(result, '$.ranking') WHERE run_id = ? ORDER BY key", [run_id]
    )
    return [number for (number,) in rows]
