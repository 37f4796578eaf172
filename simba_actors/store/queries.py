"""What people ask of a store: how far a run is, what its programs are worth, what it used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.search.plan import STUDENT_LM
from simba_actors.search.trajectory import Usage
from simba_actors.store.encoding import loads
from simba_actors.store.pool_queries import Estimate, PoolQueries
from simba_actors.store.records import ActorGauge, Run


@dataclass(frozen=True, slots=True)
class StepScores:
    """Scores of one step: of all that the student's LM sampled in it, and of its best candidate."""

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
    """How far a run is.

    `best` is the number and score of the program that won, or of the best candidate so far by its own batch;
    `student` is the student's score: on the final rows if they are in, otherwise where it was sampled.
    `rollouts_planned` counts what has been planned up to now, done or not.
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
        """Rollouts of the whole run, if further steps plan as many as those so far; None while no step is closed."""
        if self.over or self.steps_opened >= self.max_steps:
            return self.rollouts_planned
        if self.steps_closed == 0:
            return None
        return max(self.rollouts_planned, self.rollouts_planned * self.max_steps // self.steps_opened)


class Queries(PoolQueries):
    """A Reader that sums up.

    async with await Queries.open("simba.db") as store:
        for summary in await store.summaries():
            print(summary.run.run_id, summary.best)
    """

    async def step_scores(self, run_id: str) -> list[StepScores]:
        """Of every step that has scores, in order."""
        sums = await self._sampled(run_id)
        sampled = {step: Estimate.of_sums(*own) for step, own in sums.items()}
        rows = await self._rows(
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

    async def actors(self, run_id: str) -> list[ActorStatus]:
        """The run's actors, with what befell them in all its lives."""
        rows = await self._rows(
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
        return [
            ActorStatus(gauge, restarts[gauge.actor], crashes.get(gauge.actor)) for gauge in await self.gauges(run_id)
        ]

    async def gauges(self, run_id: str) -> list[ActorGauge]:
        """How busy the run's actors were when it last stored something."""
        rows = await self._rows("SELECT actor, mailbox, handled, state FROM gauges WHERE run_id = ?", [run_id])
        return [ActorGauge(*row) for row in rows]

    async def summaries(self) -> list[RunSummary]:
        """Of all runs, the newest first."""
        return [await self._summary(run) for run in reversed(await self.runs())]

    async def summary(self, run_id: str) -> RunSummary:
        """Raises UnknownRunError if there is no such run."""
        return await self._summary(await self.run(run_id))

    async def _summary(self, run: Run) -> RunSummary:
        opened, closed = (await self._rows("SELECT COUNT(*), COUNT(result) FROM steps WHERE run_id = ?", [run.run_id]))[
            0
        ]
        programs = (await self._rows("SELECT COUNT(*) FROM programs WHERE run_id = ?", [run.run_id]))[0][0]
        done, planned, failures, calls, prompt, completion, cost, tokens_unknown, cost_unknown = (
            await self._rows(
                "SELECT TOTAL(done), TOTAL(planned), TOTAL(failures), TOTAL(calls), TOTAL(prompt_tokens), "
                "TOTAL(completion_tokens), TOTAL(cost), TOTAL(tokens_unknown), TOTAL(cost_unknown) "
                "FROM tallies WHERE run_id = ?",
                [run.run_id],
            )
        )[0]
        rules = await self._strategy_usage(run.run_id)
        rollouts = Usage(
            int(calls),
            None if tokens_unknown else int(prompt),
            None if tokens_unknown else int(completion),
            None if cost_unknown else cost,
        )
        return RunSummary(
            run,
            cast("int", run.settings.get("max_steps", opened)),
            opened,
            closed,
            programs,
            await self._best(run),
            await self._student(run.run_id),
            int(done),
            int(planned),
            int(failures),
            rollouts + rules,
        )

    async def _strategy_usage(self, run_id: str) -> Usage:
        calls, prompt, completion, cost, tokens_unknown, cost_unknown = (
            await self._rows(
                "SELECT TOTAL(calls), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost), "
                "TOTAL(prompt_tokens IS NULL OR completion_tokens IS NULL), TOTAL(cost IS NULL) "
                "FROM proposals WHERE run_id = ?",
                [run_id],
            )
        )[0]
        return Usage(
            int(calls),
            None if tokens_unknown else int(prompt),
            None if tokens_unknown else int(completion),
            None if cost_unknown else cost,
        )

    async def _best(self, run: Run) -> tuple[int, float] | None:
        if run.result is not None:
            number, score = cast("dict[str, Any]", run.result)["ranking"][0]
            return number, score
        rows = await self._rows(
            "SELECT program, TOTAL(scores) / SUM(done) AS mean FROM tallies WHERE run_id = ? AND phase = 'evaluate' "
            "GROUP BY program HAVING SUM(done) = SUM(planned) ORDER BY mean DESC, program LIMIT 1",
            [run.run_id],
        )
        return (rows[0][0], rows[0][1]) if rows else None

    async def _student(self, run_id: str) -> Estimate | None:
        done, planned, scores, squares = (
            await self._rows(
                "SELECT TOTAL(done), TOTAL(planned), TOTAL(scores), TOTAL(squares) FROM tallies "
                "WHERE run_id = ? AND program = 0 AND phase = 'final'",
                [run_id],
            )
        )[0]
        if done and done == planned:
            return Estimate.of_sums(int(done), scores, squares)
        sampled = (await self._sampled(run_id, program=0)).values()
        return Estimate.of_sums(
            sum(count for count, _, _ in sampled), sum(s for _, s, _ in sampled), sum(s for _, _, s in sampled)
        )

    async def _sampled(self, run_id: str, program: int | None = None) -> dict[int, tuple[int, float, float]]:
        """How much the student's LM sampled in each step, and the sums of the scores and of their squares."""
        if await self._has_other_lms(run_id):
            columns, source = "COUNT(*), TOTAL(score), TOTAL(score * score)", "rollouts"
            done = f"outcome IS NOT NULL AND json_extract(model, '$[0]') = '{STUDENT_LM}'"
        else:
            columns, source, done = "SUM(done), SUM(scores), SUM(squares)", "tallies", "done > 0"
        rows = await self._rows(
            f"SELECT step, {columns} FROM {source} WHERE run_id = :run AND phase = 'sample' "
            f"AND (:program IS NULL OR program = :program) AND {done} GROUP BY step",
            {"run": run_id, "program": program},
        )
        return {step: (count, scores, squares) for step, count, scores, squares in rows}
