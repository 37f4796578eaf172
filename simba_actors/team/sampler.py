"""Runs rollouts, as many at a time as the run allows, and stores what they leave."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from simba_actors.actors import CastReturn, GenServer, InitReturn, spawn_link
from simba_actors.errors import BudgetReachedError, InfrastructureError, MetricError
from simba_actors.evaluation.executor import RolloutTask
from simba_actors.events import TrajectorySampled
from simba_actors.programs import Configuration
from simba_actors.search.buckets import Sample
from simba_actors.search.evidence import Score
from simba_actors.search.plan import Phase, Rollout, RolloutKey
from simba_actors.search.policy import StepPlan
from simba_actors.search.trajectory import Outcome
from simba_actors.store.records import RecordRollout
from simba_actors.team.messages import (
    BudgetSpent,
    Commit,
    Drain,
    Drained,
    MetricFailed,
    ReadConfiguration,
    ReadRollouts,
    RunProgram,
    RunSamples,
    Sampled,
    Scored,
)
from simba_actors.team.setup import ANALYZER, COORDINATOR, POOL_KEEPER, SAMPLER, RunSetup

URGENT, AHEAD = 0, 1

RECORDS_A_TURN = 100
"""Taken on at a stretch: it takes about a millisecond."""

Queued: TypeAlias = "tuple[int, int, Rollout]"


@dataclass(frozen=True, slots=True)
class RolloutsEnded:
    """From the workers: results wait to be stored."""


@dataclass(frozen=True, slots=True)
class Job:
    """Rollouts that are told of together: all samples of a step (`program` is None), or a program's of one phase."""

    step: int
    phase: Phase
    program: int | None


@dataclass(slots=True)
class Progress:
    """What a job still waits for, and what is in: samples where there is a `plan` to analyze them for, else scores."""

    plan: StepPlan | None
    missing: set[RolloutKey] = field(default_factory=set[RolloutKey])
    samples: list[Sample] = field(default_factory=list[Sample])
    scores: list[Score] = field(default_factory=list[Score])

    def add(self, sample: Sample) -> None:
        self.missing.discard(sample.rollout.key)
        self.scores.append(_score(sample))
        if self.plan is not None:
            self.samples.append(sample)


@dataclass(slots=True)
class SamplerState:
    """`queued` and `running` hold the keys of rollouts that are on their way, `ended` results that are to be stored.

    `draining` is whether the Coordinator waits for `running` to be empty.
    """

    queue: asyncio.PriorityQueue[Queued] = field(default_factory=asyncio.PriorityQueue[Queued])
    queued: set[RolloutKey] = field(default_factory=set[RolloutKey])
    running: set[RolloutKey] = field(default_factory=set[RolloutKey])
    ended: list[Sample] = field(default_factory=list[Sample])
    jobs: dict[Job, Progress] = field(default_factory=dict[Job, Progress])
    configurations: dict[int, Configuration] = field(default_factory=dict[int, Configuration])
    workers: int = 0
    draining: bool = False


class Sampler(GenServer[SamplerState]):
    """Workers take rollouts from one queue, urgent ones first; the Sampler stores what they bring in batches.

    A job may be asked for many times. Unless they are fresh, its rollouts are read from the store each time, so what
    has a result is told of again, and what is on its way is not run twice.
    """

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup
        self._order = itertools.count()

    async def init(self) -> InitReturn:
        self.state = SamplerState()
        return None

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case RunSamples(plan=plan, fresh=fresh):
                await self._take_on(Job(plan.step, "sample", None), Progress(plan), plan.rollouts if fresh else None)
            case RunProgram(step=step, phase=phase, program=program, ahead=ahead, fresh=fresh):
                await self._take_on(Job(step, phase, program), Progress(None), fresh, AHEAD if ahead else URGENT)
            case RolloutsEnded():
                await self._store()
                await self._tell_if_drained()
            case Drain():
                self.state.draining = True
                await self._tell_if_drained()
            case _:
                return await super().handle_cast(message)
        return None

    def format_state(self) -> str:
        state = self.state
        return f"{len(state.queued)} rollouts queued, {len(state.running)} running, {len(state.jobs)} jobs"

    async def _take_on(
        self, job: Job, progress: Progress, fresh: Sequence[Rollout] | None, urgency: int = URGENT
    ) -> None:
        planned = await self._read(job, progress) if fresh is None else fresh
        for place, rollout in enumerate(planned):
            if place % RECORDS_A_TURN == 0:
                await asyncio.sleep(0)  # The host's event loop turns in between.
            progress.missing.add(rollout.key)
            await self._know(rollout.program)
            if rollout.key not in self.state.running:
                # One that is queued already may have become more urgent; the worker leaves out the later of the two.
                self.state.queued.add(rollout.key)
                self.state.queue.put_nowait((urgency, next(self._order), rollout))
                self._hire()
        self.state.jobs[job] = progress
        await self._tell_if_complete(job)

    def _hire(self) -> None:
        """As many workers as there is work for, where the run allows so many."""
        state = self.state
        if state.workers < min(self._setup.max_concurrency, len(state.queued) + len(state.running)):
            spawn_link(self._work, name=f"rollout worker {state.workers}")
            state.workers += 1

    async def _read(self, job: Job, progress: Progress) -> list[Rollout]:
        """The job's rollouts that have no result yet; those that have one are in."""
        records = await self._setup.via(POOL_KEEPER).call(ReadRollouts(job.step, job.phase, job.program), timeout=None)
        for record in records:
            if record.trajectory is not None:
                progress.add(Sample(record.rollout, record.trajectory))
        return [record.rollout for record in records if record.trajectory is None]

    async def _know(self, program: int) -> None:
        known = self.state.configurations
        if program not in known:
            known[program] = await self._setup.via(POOL_KEEPER).call(ReadConfiguration(program), timeout=None)

    async def _work(self) -> None:
        """One worker: a rollout at a time, for ever."""
        state, gate = self.state, self._setup.gate
        while True:
            urgency, _, rollout = await state.queue.get()
            await gate.passed()
            opening = gate.openings
            if rollout.key not in state.queued:
                continue
            state.queued.discard(rollout.key)
            state.running.add(rollout.key)
            try:
                self._setup.purse.check()
                await self._run(rollout, ahead=urgency == AHEAD)
            except BudgetReachedError as error:
                # It stays planned, for a life with a larger budget.
                state.running.discard(rollout.key)
                self._setup.via(COORDINATOR).cast_nowait(BudgetSpent(error.cap))
                self.ref.cast_nowait(RolloutsEnded())
            except InfrastructureError as error:
                self._setup.tell_outage(error, opening)
                state.running.discard(rollout.key)
                state.queued.add(rollout.key)
                state.queue.put_nowait((URGENT, next(self._order), rollout))
            except MetricError as error:
                gate.fail(error)
                self._setup.via(COORDINATOR).cast_nowait(MetricFailed(error))

    async def _run(self, rollout: Rollout, *, ahead: bool) -> None:
        configuration = self.state.configurations[rollout.program]
        task = RolloutTask(configuration, rollout.example, rollout.model, rollout.split, ahead)
        with self._setup.telemetry.rollout(rollout) as ended:
            trajectory = await self._setup.executor.run(task)
            ended(trajectory)
        self.state.ended.append(Sample(rollout, trajectory))
        if len(self.state.ended) == 1:
            self.ref.cast_nowait(RolloutsEnded())

    async def _tell_if_drained(self) -> None:
        if self.state.draining and not self.state.running:
            self.state.draining = False
            await self._setup.via(COORDINATOR).cast(Drained(SAMPLER))

    async def _store(self) -> None:
        ended, self.state.ended = self.state.ended, []
        if not ended:
            return
        writes = tuple(RecordRollout(sample.rollout.key, sample.trajectory) for sample in ended)
        events = tuple(_sampled(sample) for sample in ended if sample.rollout.key.phase == "sample")
        await self._setup.via(POOL_KEEPER).call(Commit(writes, events), timeout=None)
        jobs: dict[Job, None] = {}
        for sample in ended:
            key = sample.rollout.key
            self.state.running.discard(key)
            job = Job(key.step, key.phase, None if key.phase == "sample" else sample.rollout.program)
            progress = self.state.jobs.get(job)
            if progress is not None:
                progress.add(sample)
                jobs[job] = None
        for job in jobs:
            await self._tell_if_complete(job)

    async def _tell_if_complete(self, job: Job) -> None:
        progress = self.state.jobs[job]
        if progress.missing:
            return
        del self.state.jobs[job]
        scores = tuple(sorted(progress.scores, key=lambda score: score.key.position))
        await self._setup.via(COORDINATOR).cast(Scored(job.step, job.phase, job.program, scores))
        if progress.plan is not None:
            samples = tuple(sorted(progress.samples, key=lambda sample: sample.rollout.key.position))
            await self._setup.via(ANALYZER).cast(Sampled(progress.plan, samples))


def _score(sample: Sample) -> Score:
    rollout = sample.rollout
    return Score(
        rollout.key,
        rollout.program,
        rollout.example,
        sample.trajectory.score,
        rollout.model,
        rollout.split,
        failed=sample.trajectory.outcome is Outcome.PROGRAM_FAILURE,
    )


def _sampled(sample: Sample) -> TrajectorySampled:
    rollout, trajectory = sample.rollout, sample.trajectory
    return TrajectorySampled(
        step=rollout.key.step,
        position=rollout.key.position,
        program=rollout.program,
        example=rollout.example,
        outcome=trajectory.outcome,
        score=float(trajectory.score),
        lm=rollout.model.lm,
    )
