"""The messages of a run's actors, and the means by which they reach one another.

A `Call[R]` expects a reply of type R; the others expect none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from simba_actors.actors import Call, Registry, Via
from simba_actors.errors import InfrastructureError, MetricError
from simba_actors.events import Event, PauseCause
from simba_actors.programs import Configuration
from simba_actors.search.buckets import BatchStatistics, Bucket, BucketScores
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.policy import StepPlan, TriedStep
from simba_actors.search.progress import Progress
from simba_actors.search.rollout import Phase, Rollout, Split, Usage
from simba_actors.store.records import Position, Program, ProposalRecord, RolloutRecord, Run, Write
from simba_actors.team.pool_view import PoolView
from simba_actors.team.run_state import Pausing, cause_of

R = TypeVar("R")

POOL_KEEPER = "pool_keeper"
SAMPLER = "sampler"
ANALYZER = "analyzer"
PROPOSER = "proposer"
PUBLISHER = "publisher"
COORDINATOR = "coordinator"

# ── to the PoolKeeper ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Commit(Call[None]):
    """Store `writes` and `events` in one transaction, together with the LM calls reserved so far.

    The reply comes once they are safe. A commit that is cast is stored before any later question is answered.
    """

    writes: tuple[Write, ...]
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreReports:
    """Store the events that were reported outside of a commit."""


class Read(Call[R]):
    """Base class of questions to the PoolKeeper. The reply reflects every commit that was sent before."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything that a Coordinator needs to continue a run."""

    run: Run
    position: Position
    programs: Mapping[int, Configuration]
    evidence: Evidence
    progress: Progress | None
    set_aside: tuple[tuple[Split, int], ...]
    """Examples without a score, which stay left out."""


@dataclass(frozen=True, slots=True)
class ReadLedger(Read[Ledger]):
    """Return where the run stands."""


@dataclass(frozen=True, slots=True)
class ReadConfiguration(Read[Configuration]):
    """Return the configuration of one program of the pool."""

    program: int


@dataclass(frozen=True, slots=True)
class ReadPool(Read[PoolView]):
    """Return all programs of the pool."""


@dataclass(frozen=True, slots=True)
class ReadPrograms(Read[tuple[Program, ...]]):
    """Return all programs of the pool as stored, with their parents and provenance."""


@dataclass(frozen=True, slots=True)
class ReadRollouts(Read[tuple[RolloutRecord, ...]]):
    """Return the rollouts of one step and phase with their results, in the order of the plan.

    Those of one `program` if it is given, otherwise those of all programs.
    """

    step: int
    phase: Phase
    program: int | None = None


@dataclass(frozen=True, slots=True)
class ReadBuckets(Read[Mapping[int, Bucket]]):
    """Return the buckets of some examples of a step, by example. An example without a result has none."""

    step: int
    examples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadObjectives(Read[Mapping[str, Evidence]]):
    """Return all scores of the run for each of these objectives."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadProposals(Read[tuple[ProposalRecord, ...]]):
    """Return the step's proposals that have an outcome, in order of their index."""

    step: int


@dataclass(frozen=True, slots=True)
class ReadUsage(Read[Mapping[str, Usage]]):
    """Return what the step's rollouts and strategies have used, by name of the LM."""

    step: int


# ── to the Sampler ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RunSamples:
    """Run the step's planned rollouts, and tell the Analyzer when all results are in.

    A `fresh` plan has no results in the store yet, so the Sampler does not look for them.
    """

    plan: StepPlan
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Run what is planned for one program in one phase, and tell the Coordinator when all results are in.

    `fresh` lists all the rollouts if none of them has a result in the store yet; otherwise the Sampler reads them.
    """

    step: int
    phase: Phase
    program: int
    fresh: tuple[Rollout, ...] | None = None

    @classmethod
    def jobs(cls, rollouts: Sequence[Rollout], *, only: set[int]) -> tuple[RunProgram, ...]:
        """Return one job for each program of `only` and phase in `rollouts`."""
        jobs = [cls(r.key.step, r.key.phase, r.program) for r in rollouts if r.program in only]
        return tuple(dict.fromkeys(jobs))


# ── to the Publisher ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PublishBest(Call[None]):
    """Publish the program of `pool` that this `evidence` shows to be better than the published one, if there is one."""

    evidence: Evidence
    pool: PoolView


# ── to the Analyzer, the Proposer and the Coordinator ────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Sampled:
    """All rollouts of the step's plan have results."""

    plan: StepPlan
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Analyzed:
    """The scores of the step's samples, grouped by example, the most instructive one first."""

    plan: StepPlan
    buckets: tuple[BucketScores, ...]
    statistics: BatchStatistics


@dataclass(frozen=True, slots=True)
class Proposed:
    """All proposals of a step have an outcome. Its candidates may still be running."""

    tried: TriedStep
    sampled_mean: float | None


@dataclass(frozen=True, slots=True)
class Scored:
    """All rollouts planned so far for a program in one phase have results; `program` is None for a step's samples."""

    step: int
    phase: Phase
    program: int | None
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Unreachable:
    """An LM can't be used until the user acts, or could not be reached for longer than the grace period.

    The affected work stays planned. `epoch` is the pausing epoch in which it began.
    """

    reason: str
    cause: PauseCause
    epoch: int


@dataclass(frozen=True, slots=True)
class SilenceBegun:
    """No LM call has been answered for a while; the last one failed for this `reason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class SilenceEnded:
    """An LM call was answered again."""


@dataclass(frozen=True, slots=True)
class EverythingFailed:
    """The student failed on every example of the first step for the same `reason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class BudgetSpent:
    """The budget's `cap` kept an LM call from being sent. The affected work stays planned."""

    cap: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Send `Drained` to the Coordinator once no work that calls an LM is in flight, and start no more from then on."""


@dataclass(frozen=True, slots=True)
class Drained:
    """The actor `by` has no work in flight that calls an LM."""

    by: str


@dataclass(frozen=True, slots=True)
class MetricFailed:
    """The metric raised or returned something that is not a number. The user has to fix it."""

    error: MetricError


@dataclass(frozen=True, slots=True)
class Pause(Call[None]):
    """Start no more rollouts. Those in flight are finished and stored."""

    reason: str
    cause: PauseCause = "user"


@dataclass(frozen=True, slots=True)
class Resume(Call[None]):
    """Continue after a pause."""

    by: Literal["resume", "resume_after"] = "resume"
    epoch: int | None = None
    """The epoch whose pause is to end; None for any."""


# ── addresses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Teammates:
    """Addresses of a run's actors, and the requests that most of them make of the PoolKeeper.

    An address stays valid when its actor is restarted.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._reports: list[Event] = []

    def via(self, name: str) -> Via:
        """Return the address of the actor with that name."""
        return self.registry.via(name)

    async def commit(self, writes: Sequence[Write], events: Sequence[Event] = ()) -> None:
        """Store these in one transaction. Return once they are safe."""
        await self.via(POOL_KEEPER).call(Commit(tuple(writes), tuple(events)), timeout=None)

    async def commit_later(self, writes: Sequence[Write], events: Sequence[Event] = ()) -> None:
        """Store these in one transaction, before any later question is answered. Do not wait for it."""
        await self.via(POOL_KEEPER).cast(Commit(tuple(writes), tuple(events)))

    async def pool(self) -> PoolView:
        """Return the pool as it is now."""
        return await self.via(POOL_KEEPER).call(ReadPool(), timeout=None)

    def report_outage(self, error: InfrastructureError, epoch: int, pausing: Pausing, where: str) -> None:
        """Pause the run for an error of work that began in that pausing epoch. `where` names the work.

        An LM call may fail long after it was sent. If the run was resumed since, the error is out of date and ignored.
        """
        if epoch == pausing.epoch:
            reason, cause = f"{error} (met by {where})", cause_of(error)
            pausing.pause(reason, cause)
            self.via(COORDINATOR).cast_nowait(Unreachable(reason, cause, epoch))

    def report(self, event: Event) -> None:
        """Have an event stored that belongs to no commit, such as a crash or a repeated LM call.

        If the PoolKeeper is down, it stores the event once it is up again.
        """
        self._reports.append(event)
        self.via(POOL_KEEPER).cast_nowait(StoreReports())

    def take_reports(self) -> list[Event]:
        """Return the reported events that are not stored yet, oldest first, for the caller to store."""
        taken, self._reports = self._reports, []
        return taken

    def put_back_reports(self, events: list[Event]) -> None:
        """Return events to the queue that could not be stored."""
        self._reports[:0] = events
