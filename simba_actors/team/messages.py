"""What the actors of a run say to one another. A `Call[R]` expects a reply of type R; the others expect none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simba_actors.actors import Call
from simba_actors.errors import MetricError
from simba_actors.events import Event
from simba_actors.programs import Configuration
from simba_actors.search.buckets import BatchStatistics, Bucket, Sample
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.plan import Phase, Rollout
from simba_actors.search.policy import Proposal as PlannedProposal
from simba_actors.search.policy import StepPlan
from simba_actors.search.progress import Progress
from simba_actors.search.trajectory import Usage
from simba_actors.store.records import Proposal, RolloutRecord, Run, Step, Write

# ── to the PoolKeeper ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Commit(Call[None]):
    """Store `writes` and `events` in one transaction, with the calls counted so far under a cap on calls.

    The reply comes when they are safe. It may be cast as well: then they are stored before what is asked for later.
    """

    writes: tuple[Write, ...]
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreReports:
    """There are events that no commit brings."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where a run stands: all that a Coordinator needs to go on with it."""

    run: Run
    steps: tuple[Step, ...]
    programs: Mapping[int, Configuration]
    evidence: Evidence
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class ReadLedger(Call[Ledger]):
    """Where the run stands."""


@dataclass(frozen=True, slots=True)
class ReadConfiguration(Call[Configuration]):
    """The configuration of a program of the pool."""

    program: int


@dataclass(frozen=True, slots=True)
class ReadPool(Call[Mapping[int, Configuration]]):
    """The configurations of all programs of the pool, by number."""


@dataclass(frozen=True, slots=True)
class ReadRollouts(Call[tuple[RolloutRecord, ...]]):
    """Rollouts of one step and phase, of all programs or of one, with what they left, in the order of the plan."""

    step: int
    phase: Phase
    program: int | None = None


@dataclass(frozen=True, slots=True)
class ReadObjectives(Call[Mapping[str, Evidence]]):
    """All scores of the run by each of these names that its metric gives."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadProposals(Call[tuple[Proposal, ...]]):
    """The step's proposals that have an outcome, in order of their slots."""

    step: int


@dataclass(frozen=True, slots=True)
class ReadUsage(Call[Mapping[str, Usage]]):
    """What the step's rollouts and strategies have used, by name of the LM."""

    step: int


# ── to the Sampler ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RunSamples:
    """Run the step's planned rollouts; the Analyzer hears when all are in.

    Those of a `fresh` plan are in the store without a result, and need not be read from it.
    """

    plan: StepPlan
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Run what is planned for one program in one phase; the Coordinator hears when all are in.

    Work that is `ahead` of its time waits until there is nothing else to do. `fresh` is all of it where it is in the
    store without a result, and need not be read from it.
    """

    step: int
    phase: Phase
    program: int
    ahead: bool = False
    fresh: tuple[Rollout, ...] | None = None

    @classmethod
    def jobs(cls, rollouts: Sequence[Rollout], *, only: set[int], ahead: bool = False) -> tuple[RunProgram, ...]:
        """One for each program and phase of `rollouts`, of these programs alone."""
        jobs = [cls(r.key.step, r.key.phase, r.program, ahead) for r in rollouts if r.program in only]
        return tuple(dict.fromkeys(jobs))


# ── to the Publisher ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PublishBest(Call[None]):
    """Publish the program that is better than the published one beyond doubt, if there is one."""


# ── to the Analyzer, the Proposer and the Coordinator ────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Sampled:
    """All rollouts of the step's plan are in."""

    plan: StepPlan
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Analyzed:
    """The step's samples, by example."""

    plan: StepPlan
    buckets: tuple[Bucket, ...]
    statistics: BatchStatistics


@dataclass(frozen=True, slots=True)
class Proposed:
    """All proposals of the step have an outcome; `candidates` are the programs that they made."""

    plan: StepPlan
    proposals: tuple[PlannedProposal, ...]
    candidates: tuple[int, ...]
    baseline_score: float


@dataclass(frozen=True, slots=True)
class Scored:
    """All rollouts planned so far for a program in one phase are in, or all of a step's samples (`program` is None)."""

    step: int
    phase: Phase
    program: int | None
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Unreachable:
    """An LM can't be reached, and patience with it is over. The work that met this began at that opening of the gate,
    and stays planned."""

    reason: str
    opening: int


@dataclass(frozen=True, slots=True)
class BudgetSpent:
    """A cap of the budget, named `cap`, kept a call from being sent. The work that met this stays planned."""

    cap: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell the Coordinator, by `Drained`, as soon as no work that calls an LM is in flight."""


@dataclass(frozen=True, slots=True)
class Drained:
    """The actor `by` has no work in flight that calls an LM."""

    by: str


@dataclass(frozen=True, slots=True)
class MetricFailed:
    """The metric raised or gave no number: the user's to mend."""

    error: MetricError


@dataclass(frozen=True, slots=True)
class Pause(Call[None]):
    """Start no more rollouts. Those in flight end and are stored."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resume(Call[None]):
    """Go on after a pause."""
