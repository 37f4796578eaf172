"""Queries about runs: how far they are, how good their programs are, what they used."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from simba_actors.search.rollout import STUDENT_LM, Usage
from simba_actors.store.encoding import dumps, loads
from simba_actors.store.ownership import find_process
from simba_actors.store.queries.ledger_queries import all_runs, find_run
from simba_actors.store.queries.pool_queries import MeanScore
from simba_actors.store.queries.score_queries import Standing, best_and_student
from simba_actors.store.queries.usage_queries import (
    TOTAL_USAGE,
    USED_BY_PROPOSALS,
    usage_of_totals,
    usage_without_result,
)
from simba_actors.store.records import ActorGauge, Run

EstimateKind: TypeAlias = Literal["TrendEstimated", "OutlookEstimated", "BudgetForecast"]
"""Events that report what a run expects."""

OVER = ("finished", "failed")
"""Statuses of runs that no process works on."""


@dataclass(frozen=True, slots=True)
class StepScores:
    """Scores of one step: of its samples from the student's LM, and of its best candidate."""

    step: int
    sampled: MeanScore | None
    best: int | None
    best_score: MeanScore | None


@dataclass(frozen=True, slots=True)
class ActorStatus:
    """An actor's gauge, how often it was restarted, and why it crashed last."""

    gauge: ActorGauge
    restarts: int
    last_crash: str | None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Summary of a run's state.

    `best` and `student` are the scores of the best program and of the student, both by their own rollouts; see
    `score_queries.best_standing` and `score_queries.standings`.
    `rollouts_planned` counts the rollouts planned so far, done or not. `rollouts_running` is how many concurrency slots
    were in use when the run last stored something; None if that is unknown or the run is not running. `process` is the
    living process that has the run open, as "pid@host"; None if there is none, whatever the status says.
    """

    run: Run
    max_steps: int
    steps_opened: int
    steps_closed: int
    programs: int
    best: Standing | None
    student: Standing | None
    rollouts_done: int
    rollouts_planned: int
    rollouts_failed: int
    rollouts_running: int | None
    usage: Usage
    process: str | None

    @property
    def over(self) -> bool:
        return self.run.status in OVER

    @property
    def notice(self) -> str | None:
        """What a run that is not over waits for if no process has it open; None if one has."""
        if self.over or self.process is not None:
            return None
        return "no process has it open: it continues once one starts it with the same config"

    @property
    def settings(self) -> dict[str, Any]:
        """The run's settings that have a value. Fields of groups are listed one by one, such as `budget.max_calls`."""
        listed: dict[str, Any] = {}
        for name, value in self.run.settings.items():
            if isinstance(value, dict):
                listed |= {f"{name}.{key}": part for key, part in value.items() if part is not None}
            elif value is not None:
                listed[name] = value
        return listed

    def rollouts_expected(self) -> int | None:
        """Return the rollouts of the whole run if later steps plan as many as before; None before a step is closed."""
        if self.over or self.steps_opened >= self.max_steps:
            return self.rollouts_planned
        if self.steps_closed == 0:
            return None
        return max(self.rollouts_planned, self.rollouts_planned * self.max_steps // self.steps_opened)


def evenly_chosen(steps: int, most: int) -> list[int]:
    """Return the first `steps` steps, or evenly chosen ones and the last of them if these are more than `most`."""
    stride = -(-steps // most) or 1
    return sorted({*range(0, steps, stride), *range(steps)[-1:]})


def step_scores(db: sqlite3.Connection, run_id: str, steps: Collection[int] | None = None) -> list[StepScores]:
    """Return the scores of the steps that have any, in order: of those in `steps`, or of all."""
    chosen = "" if steps is None else "AND step IN (SELECT value FROM json_each(:steps)) "
    values = {"run": run_id, "lm": STUDENT_LM, "steps": dumps(list(steps or ()))}
    rows = db.execute(
        "SELECT step, SUM(done), SUM(scores), SUM(squares) FROM tallies "
        f"WHERE run_id = :run AND phase = 'sample' AND lm = :lm AND done > 0 {chosen}GROUP BY step",
        values,
    )
    sampled = {step: MeanScore.of_sums(*sums) for step, *sums in rows}
    rows = db.execute(
        "SELECT step, program, SUM(done), SUM(scores), SUM(squares) FROM tallies "
        f"WHERE run_id = :run AND phase = 'evaluate' AND done > 0 {chosen}"
        "GROUP BY step, program ORDER BY step, program",
        values,
    )
    best: dict[int, tuple[int, int, float, float]] = {}
    for step, program, done, scores, squares in rows:
        if step not in best or scores / done > best[step][2] / best[step][1]:
            best[step] = (program, done, scores, squares)
    return [
        StepScores(step, sampled.get(step), best[step][0], MeanScore.of_sums(*best[step][1:]))
        if step in best
        else StepScores(step, sampled[step], None, None)
        for step in sorted(sampled | best)
    ]


def step_results(db: sqlite3.Connection, run_id: str) -> list[tuple[int, int | None, dict[int, float]]]:
    """Return each closed step with its best candidate and the scores of all of them."""
    rows = db.execute(
        "SELECT step, result ->> '$.winner', result -> '$.scores' FROM steps "
        "WHERE run_id = ? AND result IS NOT NULL ORDER BY step",
        [run_id],
    )
    return [(step, winner, dict(loads(scores))) for step, winner, scores in rows]


def actors(db: sqlite3.Connection, run_id: str) -> list[ActorStatus]:
    """Return the run's actors, with their restarts and crashes in all processes so far."""
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
    rows = db.execute("SELECT actor, mailbox, handled, state, running FROM gauges WHERE run_id = ?", [run_id])
    return [ActorGauge(*row) for row in rows]


def summaries(db: sqlite3.Connection) -> list[RunSummary]:
    """Return the summaries of all runs, the newest first."""
    return [_summary(db, run) for run in reversed(all_runs(db))]


def summary(db: sqlite3.Connection, run_id: str) -> RunSummary:
    """Return the summary of one run. Raise UnknownRunError if there is no such run."""
    return _summary(db, find_run(db, run_id))


def _summary(db: sqlite3.Connection, run: Run) -> RunSummary:
    values = {"run": run.run_id}
    opened, closed = db.execute(
        # Steps are closed in order, so only those after the last closed one are looked at.
        "SELECT (SELECT COUNT(*) FROM steps WHERE run_id = :run), COALESCE("
        "(SELECT step + 1 FROM steps WHERE run_id = :run AND result IS NOT NULL ORDER BY step DESC LIMIT 1), 0)",
        values,
    ).fetchone()
    (programs,) = db.execute("SELECT COUNT(*) FROM programs WHERE run_id = :run", values).fetchone()
    done, planned, failures, *rollouts = db.execute(
        f"SELECT TOTAL(done), TOTAL(planned), TOTAL(failures), {TOTAL_USAGE} FROM tallies WHERE run_id = :run", values
    ).fetchone()
    best, student = best_and_student(db, run.run_id)
    (running,) = db.execute("SELECT SUM(running) FROM gauges WHERE run_id = :run", values).fetchone()
    strategies = db.execute(f"SELECT {TOTAL_USAGE} FROM ({USED_BY_PROPOSALS})", values).fetchone()
    usage = usage_of_totals(rollouts) + usage_of_totals(strategies)
    process = find_process(db, run.run_id)
    return RunSummary(
        run,
        cast("int", run.settings.get("max_steps", opened)),
        opened,
        closed,
        programs,
        best,
        student,
        int(done),
        int(planned),
        int(failures),
        running if run.status == "running" and process is not None else None,
        usage + (usage_without_result(db, run.run_id, usage) or Usage()),
        process,
    )


def latest_estimate(db: sqlite3.Connection, run_id: str, kind: EstimateKind) -> dict[str, Any] | None:
    """Return the fields of the run's latest event of a kind, or None if there is none yet."""
    row = db.execute(
        "SELECT data FROM events WHERE run_id = ? AND kind = ? ORDER BY seq DESC LIMIT 1", [run_id, kind]
    ).fetchone()
    return None if row is None else cast("dict[str, Any]", loads(row[0]))
