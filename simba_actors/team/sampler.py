"""The Sampler: runs rollouts, as many at a time as the run allows, and stores their results."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from simba_actors.actors import CastReturn, GenServer, InitReturn, spawn_link
from simba_actors.errors import BudgetReachedError, InfrastructureError, MetricError
from simba_actors.evaluation.executor import Executor, RolloutTask
from simba_actors.events import TrajectorySampled
from simba_actors.lm.budget import BudgetTracker
from simba_actors.observe.telemetry import Telemetry
from simba_actors.programs import Configuration
from simba_actors.runtime.logs import get_logger
from simba_actors.search.buckets import Sample
from simba_actors.search.evidence import Score
from simba_actors.search.policy import StepPlan
from simba_actors.search.rollout import Outcome, Phase, Rollout, RolloutKey, Split
from simba_actors.store.records import RecordRollout
from simba_actors.team.diagnosis import Diagnostician
from simba_actors.team.messages import (
    ANALYZER,
    COORDINATOR,
    POOL_KEEPER,
    SAMPLER,
    BudgetSpent,
    Commit,
    Drain,
    Drained,
    EverythingFailed,
    MetricFailed,
    ReadConfiguration,
    ReadRollouts,
    RunProgram,
    RunSamples,
    Sampled,
    Scored,
    Teammates,
)
from simba_actors.team.run_state import Gate
from simba_actors.team.setting_aside import Heard, SettingAside

logger = get_logger(__name__)

RECORDS_A_TURN = 100
"""Rollouts queued before the event loop may run other work; queueing them takes about a millisecond."""

Queued: TypeAlias = "tuple[bool, bool, int, int, Rollout]"
"""A rollout after its place in the queue: those that failed come last. Of the others, samples come first, since rules
are written from them while candidates are evaluated, and then those of earlier steps."""


@dataclass(frozen=True, slots=True)
class RolloutsEnded:
    """Message of a worker: results are waiting to be stored."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Message of a worker: an example was set aside."""


@dataclass(frozen=True, slots=True)
class Job:
    """Rollouts that are reported together: all samples of a step (`program` is None), or a program's in one phase."""

    step: int
    phase: Phase
    program: int | None


@dataclass(slots=True)
class JobProgress:
    """The results of a job so far."""

    plan: StepPlan | None
    """The plan of the step whose samples the job runs; None for a program's rollouts."""
    missing: dict[RolloutKey, Rollout] = field(default_factory=dict[RolloutKey, Rollout])
    """Rollouts without a result."""
    has_new_results: bool = False
    """Whether any of the results was not in the store before."""
    scores: list[Score] = field(default_factory=list[Score])
    errors: list[str | None] = field(default_factory=list[str | None])
    """The errors of program failures, and None for each other result."""

    def add(self, sample: Sample) -> None:
        self.missing.pop(sample.rollout.key, None)
        self.scores.append(_score(sample))
        self.errors.append(sample.trajectory.error)


@dataclass(slots=True)
class SamplerState:
    """The rollouts that are planned, running or ended, and the jobs they belong to."""

    queue: asyncio.PriorityQueue[Queued] = field(default_factory=asyncio.PriorityQueue[Queued])
    queued: set[RolloutKey] = field(default_factory=set[RolloutKey])
    """Rollouts in the queue. An entry of the queue that is not among them is out of date."""
    running: set[RolloutKey] = field(default_factory=set[RolloutKey])
    """Rollouts that a worker has, and those whose result is not stored yet."""
    ended: list[Sample] = field(default_factory=list[Sample])
    """Results to store."""
    jobs: dict[Job, JobProgress] = field(default_factory=dict[Job, JobProgress])
    configurations: dict[int, Configuration] = field(default_factory=dict[int, Configuration])
    """Configurations of programs, by number."""
    workers: int = 0
    failures_logged: set[str] = field(default_factory=set[str])
    """Kinds of program failures that were logged."""
    draining: bool = False
    """Whether the Coordinator waits for `running` to be empty."""
    drained: bool = False
    """Whether the Coordinator knows that `running` is empty. It ends the run, so other results would be lost."""


class Sampler(GenServer[SamplerState]):
    """Workers take rollouts from one queue, and the Sampler stores their results in batches.

    A job may be requested many times. Unless it is fresh, its rollouts are read from the store each time, so a rollout
    that has a result is not run again, and neither is one that is queued or running.
    """

    def __init__(
        self,
        teammates: Teammates,
        *,
        executor: Executor,
        max_concurrency: int,
        budget: BudgetTracker,
        gate: Gate,
        setting_aside: SettingAside,
        telemetry: Telemetry,
    ) -> None:
        self._teammates = teammates
        self._executor = executor
        self._max_concurrency = max_concurrency
        self._budget = budget
        self._gate = gate
        self._setting_aside = setting_aside
        self._telemetry = telemetry
        self._order = itertools.count()
        self._diagnostician = Diagnostician(teammates, executor, gate.pausing, setting_aside)

    async def init(self) -> InitReturn:
        self.state = SamplerState()
        return None

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case RunSamples(plan=plan, fresh=fresh):
                await self._take_on(Job(plan.step, "sample", None), JobProgress(plan), plan.rollouts if fresh else None)
            case RunProgram(step=step, phase=phase, program=program, fresh=fresh):
                await self._take_on(Job(step, phase, program), JobProgress(None), fresh)
            case RolloutsEnded():
                await self._store()
                await self._tell_if_drained()
            case SetAside():
                await self._drop_rollouts_set_aside()
                await self._tell_if_drained()
            case Drain():
                self.state.draining = True
                await self._tell_if_drained()
            case _:
                return await super().handle_cast(message)
        return None

    @property
    def rollouts_running(self) -> int:
        """Number of concurrency slots in use. A rollout that only waits to be stored has left its slot to another."""
        return min(len(self.state.running), self._max_concurrency)

    def format_state(self) -> str:
        state = self.state
        return f"{len(state.queued)} rollouts queued, {len(state.running)} running, {len(state.jobs)} jobs"

    async def _take_on(self, job: Job, progress: JobProgress, fresh: Sequence[Rollout] | None) -> None:
        planned = await self._read(job, progress) if fresh is None else fresh
        for count, rollout in enumerate(planned):
            if count % RECORDS_A_TURN == 0:
                await asyncio.sleep(0)
            if self._setting_aside.has(rollout):
                continue
            progress.missing[rollout.key] = rollout
            await self._fetch_configuration(rollout.program)
            if rollout.key not in self.state.running and rollout.key not in self.state.queued:
                self.state.queued.add(rollout.key)
                self._queue(rollout)
                self._add_worker()
        self.state.jobs[job] = progress
        await self._tell_if_complete(job)

    def _queue(self, rollout: Rollout, *, has_failed: bool = False) -> None:
        key = rollout.key
        self.state.queue.put_nowait((has_failed, key.phase != "sample", key.step, next(self._order), rollout))

    def _add_worker(self) -> None:
        """Start another worker if there is work for it and the run allows one more."""
        state = self.state
        if state.workers < min(self._max_concurrency, len(state.queued) + len(state.running)):
            spawn_link(self._work, name=f"rollout worker {state.workers}")
            state.workers += 1

    async def _read(self, job: Job, progress: JobProgress) -> list[Rollout]:
        """Return the job's rollouts that have no result yet, and add the results of the others to `progress`."""
        records = await self._teammates.via(POOL_KEEPER).call(
            ReadRollouts(job.step, job.phase, job.program), timeout=None
        )
        for record in records:
            if record.trajectory is not None:
                progress.add(Sample(record.rollout, record.trajectory))
        return [record.rollout for record in records if record.trajectory is None]

    async def _fetch_configuration(self, program: int) -> None:
        known = self.state.configurations
        if program not in known:
            known[program] = await self._teammates.via(POOL_KEEPER).call(ReadConfiguration(program), timeout=None)

    async def _work(self) -> None:
        """Run one rollout after another, forever."""
        state, gate = self.state, self._gate
        while True:
            rollout = (await state.queue.get())[-1]
            await gate.passed()
            epoch, before = gate.pausing.epoch, self._setting_aside.heard
            if state.draining or state.drained or rollout.key not in state.queued:
                continue
            state.queued.discard(rollout.key)
            state.running.add(rollout.key)
            try:
                self._budget.check()
                await self._run(rollout, before)
            except BudgetReachedError as error:
                # The rollout stays planned, for a run with a larger budget.
                state.running.discard(rollout.key)
                self._teammates.via(COORDINATOR).cast_nowait(BudgetSpent(error.cap))
                self.ref.cast_nowait(RolloutsEnded())
            except InfrastructureError as error:
                diagnosis = await self._diagnostician.diagnose(
                    rollout, error, epoch=epoch, before=before, others=self._examples_left(rollout.model.lm)
                )
                state.running.discard(rollout.key)
                if diagnosis == "set aside":
                    self.ref.cast_nowait(SetAside())
                else:
                    state.queued.add(rollout.key)
                    # Last, since the others' results or failures show whether the LM is reachable.
                    self._queue(rollout, has_failed=True)
                    self.ref.cast_nowait(RolloutsEnded())  # The Sampler may be draining, and wait for this one.
            except MetricError as error:
                gate.failure.set(error)
                self._teammates.via(COORDINATOR).cast_nowait(MetricFailed(error))

    def _examples_left(self, lm: str) -> set[tuple[Split, int]]:
        """Return the examples of rollouts with that LM that have no result yet."""
        missing = (rollout for progress in self.state.jobs.values() for rollout in progress.missing.values())
        return {(rollout.split, rollout.example) for rollout in missing if rollout.model.lm == lm}

    async def _drop_rollouts_set_aside(self) -> None:
        for job, progress in list(self.state.jobs.items()):
            for key, rollout in list(progress.missing.items()):
                if self._setting_aside.has(rollout) and key not in self.state.running:
                    del progress.missing[key]
                    self.state.queued.discard(key)
            await self._tell_if_complete(job)

    async def _run(self, rollout: Rollout, before: Heard) -> None:
        configuration = self.state.configurations[rollout.program]
        task = RolloutTask(configuration, rollout.example, rollout.model, rollout.split)
        with self._telemetry.rollout(rollout) as ended:
            trajectory = await self._executor.run(task)
            ended(trajectory)
        if trajectory.error is not None:
            self._warn(rollout, trajectory.error)
        self._setting_aside.note_end(rollout, before, trajectory.usage.calls)
        self.state.ended.append(Sample(rollout, trajectory))
        if len(self.state.ended) == 1:
            self.ref.cast_nowait(RolloutsEnded())

    def _warn(self, rollout: Rollout, error: str) -> None:
        """Log the first failure of each kind. It scores 0, as in DSPy, and so could go unnoticed."""
        kind = _kind(error)
        if kind not in self.state.failures_logged:
            self.state.failures_logged.add(kind)
            logger.warning(
                "the student failed on %sset[%d], which scores 0 (logged once for each kind of error): %s",
                rollout.split,
                rollout.example,
                error,
            )

    async def _tell_if_drained(self) -> None:
        if self.state.draining and not self.state.running:
            self.state.draining, self.state.drained = False, True
            await self._teammates.via(COORDINATOR).cast(Drained(SAMPLER))

    async def _store(self) -> None:
        ended, self.state.ended = self.state.ended, []
        if not ended:
            return
        writes = tuple(RecordRollout(sample.rollout.key, sample.trajectory) for sample in ended)
        events = tuple(_sampled(sample) for sample in ended if sample.rollout.key.phase == "sample")
        await self._teammates.via(POOL_KEEPER).call(Commit(writes, events), timeout=None)
        jobs: dict[Job, None] = {}
        for sample in ended:
            key = sample.rollout.key
            self.state.running.discard(key)
            job = Job(key.step, key.phase, None if key.phase == "sample" else sample.rollout.program)
            progress = self.state.jobs.get(job)
            if progress is not None:
                progress.add(sample)
                progress.has_new_results = True
                jobs[job] = None
        for job in jobs:
            await self._tell_if_complete(job)

    async def _tell_if_complete(self, job: Job) -> None:
        progress = self.state.jobs[job]
        if progress.missing:
            return
        del self.state.jobs[job]
        scores = tuple(sorted(progress.scores, key=lambda score: score.key.position))
        await self._teammates.via(COORDINATOR).cast(Scored(job.step, job.phase, job.program, scores))
        if progress.plan is not None:
            if progress.has_new_results and job.step == 0 and (reason := _shared_failure(progress.errors)) is not None:
                await self._teammates.via(COORDINATOR).cast(EverythingFailed(reason))
            await self._teammates.via(ANALYZER).cast(Sampled(progress.plan, scores))


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


def _kind(error: str) -> str:
    """Return the exception's name, which is the start of its description."""
    return error.partition(":")[0]


def _shared_failure(errors: Sequence[str | None]) -> str | None:
    """Return the reason why all samples failed, or None unless all failed for the same one."""
    if not errors or errors[0] is None or any(error is None or _kind(error) != _kind(errors[0]) for error in errors):
        return None
    first = errors[0].rstrip()
    return (
        f"the student failed on every example of the first step ({len(errors)} rollouts), first with {first}. "
        "Fix it and start the run again, or resume it if the failures should count as 0"
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
        error=trajectory.error,
    )
