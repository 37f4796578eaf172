"""Queries about runs: how far they are, how good their programs are, what they used."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.search.rollout import STUDENT, STUDENT_LM, Usage
from simba_actors.store.encoding import loads
from simba_actors.store.queries.pool_queries import Estimate
from simba_actors.store.reading import TOTAL_USAGE, USED_BY_PROPOSALS, all_runs, find_run, usage_of_totals
from simba_actors.store.records import ActorGauge, Run


@dataclass(frozen=True, slots=True)
class StepScores:
    """Scores of one step: of its samples from the student's LM, and of its best candidate."""

    step: int
    sampled: Estimate | None
    best: int | None
    best_score: Estimate | None


@dataclass(frozen=True, slots=True)
class ActorStatus:
    """An actor's gauge, how often it was restarted, and why it crashed last."""

    gauge: ActorGauge
    restarts: int
    last_crash: str | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Summary of a run's state.

    `best` is the number and score of the winner or, before there is one, of the program that seems best: as of the last
    closed step, or by its own batch before the first step is closed.
    `student` is the student's score: on the final examples if they are in, otherwise where it was sampled.
    `rollouts_planned` counts the rollouts planned so far, done or not.
    """

    run: Run
    max_steps: int
    steps_opened: int
    steps_closed: int
    programs: int
    best: tuple[int, float] | None
    student: Estimate | None
    rollouts_done: int
    rollouts_planned: int
    rollouts_failed: int
    usage: Usage

    @property
    def over(self) -> bool:
        return self.run.status in ("finished", "failed")

    def rollouts_expected(self) -> int | None:
        """Return the rollouts of the whole run if later steps plan as many as before; None before a step is closed."""
        if self.over or self.steps_opened >= self.max_steps:
            return self.rollouts_planned
        if self.steps_closed == 0:
            return None
        return max(self.rollouts_planned, self.rollouts_planned * self.max_steps // self.steps_opened)


def step_scores(db: sqlite3.Connection, run_id: str) -> list[StepScores]:
    """Return the scores of every step that has any, in order."""
    sampled = {step: Estimate.of_sums(*sums) for step, sums in _sampled(db, run_id).items()}
    rows = db.execute(
        "SELECT step, program, SUM(done), SUM(scores), SUM(squares) FROM tallies "
        "WHERE run_id = ? AND phase = 'evaluate' AND done > 0 GROUP BY step, program ORDER BY step",
        [run_id],
    )
    best: dict[int, tuple[int, int, float, float]] = {}
    for step, program, done, scores, squares in rows:
        if step not in best or scores / done > best[step][2] / best[step][1]:
            best[step] = (program, done, scores, squares)
    return [
        StepScores(step, sampled.get(step), best[step][0], Estimate.of_sums(*best[step][1:]))
        if step in best
        else StepScores(step, sampled[step], None, None)
        for step in sorted(sampled | best)
    ]


def actors(db: sqlite3.Connection, run_id: str) -> list[ActorStatus]:
    """Return the run's actors, with their restarts and crashes over all its lives."""
    rows = db.execute(
        "SELECT kind, data FROM events INDEXED BY events_of_actors "
        "WHERE run_id = ? AND kind IN ('ActorCrashed', 'ActorRestarted') ORDER BY seq",
        [run_id],
    )
    restarts: Counter[str] = Counter()
    crashes: dict[str, str] = {}
    for kind, data in rows:
        event = loads(data)
        if kind == "ActorRestarted":
            restarts[event["actor"]] += 1
        else:
            crashes[event["actor"]] = event["reason"]
    return [ActorStatus(gauge, restarts[gauge.actor], crashes.get(gauge.actor)) for gauge in gauges(db, run_id)]


def gauges(db: sqlite3.Connection, run_id: str) -> list[ActorGauge]:
    """Return how busy the run's actors were when it last stored something."""
    rows = db.execute("SELECT actor, mailbox, handled, state FROM gauges WHERE run_id = ?", [run_id])
    return [ActorGauge(*row) for row in rows]


def summaries(db: sqlite3.Connection) -> list[RunSummary]:
    """Return the summaries of all runs, the newest first."""
    return [_summary(db, run) for run in reversed(all_runs(db))]


def summary(db: sqlite3.Connection, run_id: str) -> RunSummary:
    """Return the summary of one run. Raise UnknownRunError if there is no such run."""
    return _summary(db, find_run(db, run_id))


def _summary(db: sqlite3.Connection, run: Run) -> RunSummary:
    values = {"run": run.run_id}
    opened, closed = db.execute("SELECT COUNT(*), COUNT(result) FROM steps WHERE run_id = :run", values).fetchone()
    (programs,) = db.execute("SELECT COUNT(*) FROM programs WHERE run_id = :run", values).fetchone()
    done, planned, failures, *rollouts = db.execute(
        f"SELECT TOTAL(done), TOTAL(planned), TOTAL(failures), {TOTAL_USAGE} FROM tallies WHERE run_id = :run", values
    ).fetchone()
    strategies = db.execute(f"SELECT {TOTAL_USAGE} FROM ({USED_BY_PROPOSALS})", values).fetchone()
    return RunSummary(
        run,
        cast("int", run.settings.get("max_steps", opened)),
        opened,
        closed,
        programs,
        _best(db, run),
        _student(db, run.run_id),
        int(done),
        int(planned),
        int(failures),
        usage_of_totals(rollouts) + usage_of_totals(strategies),
    )


def _best(db: sqlite3.Connection, run: Run) -> tuple[int, float] | None:
    if run.result is not None:
        number, score = cast("dict[str, Any]", run.result)["ranking"][0]
        return number, score
    row = db.execute(
        "SELECT result ->> '$.best' FROM steps WHERE run_id = ? AND result IS NOT NULL ORDER BY step DESC LIMIT 1",
        [run.run_id],
    ).fetchone()
    if row is not None and row[0] is not None:
        number, score, *_ = loads(row[0])
        return number, score
    return db.execute(
        "SELECT program, TOTAL(scores) / SUM(done) AS mean FROM tallies WHERE run_id = ? AND phase = 'evaluate' "
        "GROUP BY program HAVING SUM(done) = SUM(planned) ORDER BY mean DESC, program LIMIT 1",
        [run.run_id],
    ).fetchone()


def _student(db: sqlite3.Connection, run_id: str) -> Estimate | None:
    done, planned, scores, squares = db.execute(
        "SELECT TOTAL(done), TOTAL(planned), TOTAL(scores), TOTAL(squares) FROM tallies "
        "WHERE run_id = ? AND program = ? AND phase = 'final'",
        [run_id, STUDENT],
    ).fetchone()
    if done and done == planned:
        return Estimate.of_sums(int(done), scores, squares)
    sampled = _sampled(db, run_id, STUDENT).values()
    return Estimate.of_sums(*(sum(column) for column in zip((0, 0.0, 0.0), *sampled, strict=True)))


def _sampled(db: sqlite3.Connection, run_id: str, program: int | None = None) -> dict[int, tuple[int, float, float]]:
    """Return how many rollouts the student's LM sampled in each step, and the sums of scores and of their squares."""
    rows = db.execute(
        "SELECT step, SUM(done), SUM(scores), SUM(squares) FROM tallies WHERE run_id = :run AND phase = 'sample' "
        "AND (:program IS NULL OR program = :program) AND lm = :lm AND done > 0 GROUP BY step",
        {"run": run_id, "program": program, "lm": STUDENT_LM},
    )
    return {step: (count, scores, squares) for step, count, scores, squares in rows}
