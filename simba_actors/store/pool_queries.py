"""What people ask of a pool: what its programs are worth, where they come from, how they did example by example."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.errors import UnknownProgramError
from simba_actors.search.plan import Phase, Split
from simba_actors.store.encoding import INTENT_COLUMNS, RESULT_COLUMNS, dumps, loads, rollout_record
from simba_actors.store.reading import Reader
from simba_actors.store.records import Program, RolloutRecord

NORMAL_QUANTILE = 1.96
"""Of the standard normal distribution, for two-sided intervals of 95 %."""

EXAMPLES_SHOWN = 200
"""Rollouts of one program that are listed at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of `count` scores, and the half width of its 95 % interval (normal approximation); None below two."""

    mean: float
    count: int
    margin: float | None

    @classmethod
    def of_sums(cls, count: int, scores: float, squares: float) -> Estimate | None:
        """From the number of scores, their sum and the sum of their squares; None where there are none."""
        if count == 0:
            return None
        mean = scores / count
        if count == 1:
            return cls(mean, count, None)
        variance = max(0.0, (squares - count * mean * mean) / (count - 1))
        return cls(mean, count, NORMAL_QUANTILE * math.sqrt(variance / count))


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """A program without its configuration.

    `batch` is its score on its own step's rows, `final` on the final ones. `verdict` is what the run, once it has its
    result, makes of a finalist.
    """

    number: int
    digest: str
    parents: tuple[int, ...]
    strategy: str
    step: int
    batch: Estimate | None
    final: Estimate | None
    verdict: float | None

    @property
    def score(self) -> float | None:
        """The verdict if there is one, otherwise the mean of its batch and the final rows."""
        known = [estimate for estimate in (self.batch, self.final) if estimate is not None]
        if self.verdict is not None or not known:
            return self.verdict
        return sum(estimate.mean * estimate.count for estimate in known) / sum(estimate.count for estimate in known)


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
    """What a program was made from: of one bucket, the rollout that did better and the one that did worse."""

    step: int
    example: int
    better: RolloutRecord
    worse: RolloutRecord


class PoolQueries(Reader):
    """A Reader of one run's programs."""

    async def pool(self, run_id: str, numbers: Collection[int] | None = None) -> list[PoolEntry]:
        """Programs of the run with their scores, by number: those of `numbers`, or all."""
        among = None if numbers is None else dumps(list(numbers))
        scores, verdicts = await self._scores_by_program(run_id, among), await self._verdicts(run_id)
        rows = await self._rows(
            "SELECT number, digest, parents, strategy, step FROM programs WHERE run_id = ? "
            "AND (? IS NULL OR number IN (SELECT value FROM json_each(?))) ORDER BY number",
            [run_id, among, among],
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
                verdicts.get(number),
            )
            for number, digest, parents, strategy, step in rows
        ]

    async def _scores_by_program(self, run_id: str, among: str | None) -> dict[tuple[int, Phase], Estimate | None]:
        rows = await self._rows(
            "SELECT program, phase, SUM(done), SUM(scores), SUM(squares) FROM tallies "
            "WHERE run_id = ? AND phase IN ('evaluate', 'final') AND done > 0 "
            "AND (? IS NULL OR program IN (SELECT value FROM json_each(?))) GROUP BY program, phase",
            [run_id, among, among],
        )
        return {
            (program, phase): Estimate.of_sums(done, scores, squares) for program, phase, done, scores, squares in rows
        }

    async def _verdicts(self, run_id: str) -> dict[int, float]:
        """Of the finalists, the winner first; empty while the run has no result."""
        rows = await self._rows(
            "SELECT value ->> 0, value ->> 1 FROM runs, json_each(result, '$.ranking') WHERE run_id = ? ORDER BY key",
            [run_id],
        )
        return dict(rows)

    async def ranking(self, run_id: str) -> list[int]:
        """Numbers of all programs, best first: the finalists as the run ranked them, then the others by score.

        See `PoolEntry.score`; programs without one come last.
        """
        finalists = await self._verdicts(run_id)
        rows = await self._rows(
            "SELECT number FROM programs LEFT JOIN ("
            "SELECT program, SUM(scores) / SUM(done) AS score "
            "FROM tallies WHERE run_id = :run AND phase IN ('evaluate', 'final') AND done > 0 GROUP BY program"
            ") ON program = number WHERE run_id = :run ORDER BY score IS NULL, score DESC, number",
            {"run": run_id},
        )
        return [*finalists, *(number for (number,) in rows if number not in finalists)]

    async def parents(self, run_id: str) -> dict[int, tuple[int, ...]]:
        """Of all programs of the run."""
        rows = await self._rows("SELECT number, parents FROM programs WHERE run_id = ? ORDER BY number", [run_id])
        return {number: tuple(loads(parents)) for number, parents in rows}

    async def program(self, run_id: str, number: int) -> Program:
        """Raises UnknownRunError or UnknownProgramError if there is no such program."""
        rows = await self._rows(
            "SELECT number, digest, value, parents, strategy, step, provenance "
            "FROM programs JOIN configurations USING (digest) WHERE run_id = ? AND number = ?",
            [run_id, number],
        )
        if not rows:
            await self.run(run_id)
            newest = await self._rows("SELECT MAX(number) FROM programs WHERE run_id = ?", [run_id])
            raise UnknownProgramError(f"run {run_id!r} has no program {number}; its newest is {newest[0][0]}")
        _, digest, value, parents, strategy, step, provenance = rows[0]
        return Program(number, digest, loads(value), tuple(loads(parents)), strategy, step, loads(provenance))

    async def example_scores(self, run_id: str, program: int) -> list[ExampleScore]:
        """Rollouts of the program, at most `EXAMPLES_SHOWN`, the final ones first."""
        rows = await self._rows(
            "SELECT step, phase, split, example, outcome, score, seconds FROM rollouts "
            "WHERE run_id = ? AND program = ? LIMIT ?",
            [run_id, program, EXAMPLES_SHOWN],
        )
        found = [ExampleScore(*row) for row in rows]
        return sorted(found, key=lambda row: (row.phase != "final", row.step, row.example))

    async def bucket(self, run_id: str, step: int, example: int) -> list[RolloutRecord]:
        """The step's sampled rollouts of one example that have a result, best score first."""
        rows = await self._rows(
            f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE run_id = ? AND step = ? "
            "AND phase = 'sample' AND example = ? AND outcome IS NOT NULL ORDER BY score DESC, position",
            [run_id, step, example],
        )
        return [rollout_record(row) for row in rows]

    async def children(self, run_id: str, program: int) -> list[int]:
        """Numbers of the programs that were made from this one."""
        rows = await self._rows(
            "SELECT number FROM programs WHERE run_id = ? AND number > ? "
            "AND EXISTS (SELECT 1 FROM json_each(parents) WHERE value = ?) ORDER BY number",
            [run_id, program, program],
        )
        return [number for (number,) in rows]

    async def proposals_from(self, run_id: str, step: int, example: int) -> list[tuple[int | None, str | None]]:
        """Of the step's proposals that learned from this example: the program, or the reason why there is none."""
        rows = await self._rows(
            "SELECT program, reason FROM proposals WHERE run_id = ? AND step = ? "
            "AND EXISTS (SELECT 1 FROM json_each(intent, '$.examples') WHERE value = ?) ORDER BY slot",
            [run_id, step, example],
        )
        return [(program, reason) for program, reason in rows]

    async def examples_of_step(self, run_id: str, step: int) -> list[tuple[int, int, float, float]]:
        """For each example that the step sampled: its number, how many trajectories, their least and best score."""
        rows = await self._rows(
            "SELECT example, COUNT(*), MIN(score), MAX(score) FROM rollouts "
            "WHERE run_id = ? AND step = ? AND phase = 'sample' AND outcome IS NOT NULL "
            "GROUP BY example ORDER BY MAX(score) - MIN(score) DESC, example",
            [run_id, step],
        )
        return [tuple(row) for row in rows]

    async def lessons(self, run_id: str, program: Program) -> list[Lesson]:
        """What the program was made from; empty for the student itself."""
        provenance = cast("dict[str, Any]", program.provenance or {})
        places = zip(provenance.get("examples", ()), provenance.get("rollouts", ()), strict=True)
        found: list[Lesson] = []
        for example, (better, worse) in places:
            records = {position: await self._sample(run_id, program.step, position) for position in (better, worse)}
            found.append(Lesson(program.step, example, records[better], records[worse]))
        return found

    async def _sample(self, run_id: str, step: int, position: int) -> RolloutRecord:
        rows = await self._rows(
            f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts "
            "WHERE run_id = ? AND step = ? AND phase = 'sample' AND position = ?",
            [run_id, step, position],
        )
        return rollout_record(rows[0])
