"""Records that are written to and read from the store. Every value is plain JSON: no code, no pickle, no secrets.

A write is committed whole or not at all. The order of a run is always intent, work, result: `OpenStep` and
`AddRollouts` are intents, `RecordRollout` and `RecordProposal` results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from simba_actors.errors import RunError
from simba_actors.search.rollout import JSON, Rollout, RolloutKey, Trajectory, Usage

RunStatus: TypeAlias = Literal["running", "waiting", "paused", "finished", "failed"]
"""Status of a run. `simba_actors.team.run_state` explains each, and what leads from one to another."""

UNOPTIMIZED = "unoptimized"
"""Key, in the student's provenance, of the configuration of its predictors that are not optimized."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to create, or to continue if the store has it."""

    run_id: str
    fingerprint: Mapping[str, str]
    """What must be the same when the run is continued ("student", "trainset", "metric", and each setting of the
    search), as digests or readable values."""
    settings: Mapping[str, JSON]
    """Settings as shown to people."""
    prompts: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    """The `PromptTemplate` of each predictor, as JSON."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as stored."""

    run_id: str
    status: RunStatus
    reason: str | None
    fingerprint: Mapping[str, str]
    settings: Mapping[str, JSON]
    result: JSON
    """The ranking and scores of the finalists; None until the run has finished."""
    created: float
    """Time of creation, in seconds since the Unix epoch."""
    updated: float
    """Time of the last change, in seconds since the Unix epoch."""
    prompts: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    """The `PromptTemplate` of each predictor, as JSON. Empty for runs that an earlier version started."""

    def ranking(self) -> list[tuple[int, float]]:
        """Return the finalists and their scores, the winner first. Raise RunError if there is no result yet."""
        if self.result is None:
            raise RunError(f"run {self.run_id!r} is {self.status} and has no result yet: start it again to continue")
        return cast("list[tuple[int, float]]", cast("dict[str, JSON]", self.result)["ranking"])


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the pool."""

    number: int
    digest: str
    """`Configuration.digest`."""
    configuration: JSON
    """`Configuration.to_json()`."""
    parents: tuple[int, ...]
    strategy: str
    step: int
    provenance: JSON = None
    """The evidence that the program was made from. That of the student has `UNOPTIMIZED` or is None."""


@dataclass(frozen=True, slots=True)
class OpenStep:
    """Intent: a step and its first rollouts."""

    step: int
    plan: JSON
    """`StepPlan.to_json()`, with the state of the policy and of its generators. See `store.differences`."""
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True)
class AddRollouts:
    """Intent: more rollouts. Rollouts that are planned already are left as they are."""

    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True)
class RecordRollout:
    """Result: the trajectory of a rollout. A result that is stored already is kept."""

    key: RolloutKey
    trajectory: Trajectory


@dataclass(frozen=True, slots=True)
class RecordProposal:
    """Result: the outcome of a proposal, and its usage."""

    step: int
    index: int
    """Index of the proposal in its step, counted from 0."""
    intent: JSON
    """`Proposal.to_json()`."""
    program: Program | None
    """The program it made, if any."""
    reason: str | None
    """Why it made none."""
    usage: Usage = Usage()
    rollouts: tuple[Rollout, ...] = ()
    """Intents to evaluate the program, stored with it."""


@dataclass(frozen=True, slots=True)
class AddProgram:
    """Result: a program that no proposal made, such as the student itself."""

    program: Program


@dataclass(frozen=True, slots=True)
class CloseStep:
    """Result: the end of a step."""

    step: int
    result: JSON
    """`StepResult.to_json()`: the policy's state for the next step, with this one's winner and scores. See
    `store.differences`."""
    progress: JSON = None
    """`Progress.to_json()`: what the run had found and used by then."""


@dataclass(frozen=True, slots=True)
class SetStatus:
    """A change of the run's status, with the result of a run that has finished."""

    status: RunStatus
    reason: str | None = None
    result: JSON = None


@dataclass(frozen=True, slots=True)
class ReserveCalls:
    """Count `calls` more LM calls as made, before they are sent."""

    calls: int


@dataclass(frozen=True, slots=True)
class RecordSpending:
    """Record the usage of all calls so far, including those without a result, and the uptime in seconds."""

    tokens: int
    cost: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Spending:
    """Known spending of a run."""

    calls: int = 0
    """LM calls that were reserved: sent, or about to be."""
    tokens: int = 0
    """Tokens of all calls whose usage was reported."""
    cost: float = 0.0
    """US dollars of all calls whose cost was reported."""
    seconds: float = 0.0
    """Uptime in seconds, without pauses, by the owners' monotonic clocks."""


@dataclass(frozen=True, slots=True)
class ActorGauge:
    """Load of an actor."""

    actor: str
    mailbox: int
    """Number of waiting messages."""
    handled: int
    """Number of messages handled since the actor started."""
    state: str
    """The actor's state in words."""
    running: int | None = None
    """Number of rollouts in progress, each of which takes a concurrency slot; None for actors that run none."""


@dataclass(frozen=True, slots=True)
class RecordGauges:
    """Record the current load of the actors, replacing earlier gauges."""

    gauges: tuple[ActorGauge, ...]


Write: TypeAlias = (
    OpenStep
    | AddRollouts
    | RecordRollout
    | RecordProposal
    | AddProgram
    | CloseStep
    | SetStatus
    | ReserveCalls
    | RecordSpending
    | RecordGauges
)


@dataclass(frozen=True, slots=True)
class Step:
    """A step as stored. `result` is None while it is open."""

    step: int
    plan: JSON
    result: JSON


@dataclass(slots=True)
class Position:
    """Where the search of a run stands."""

    steps_closed: int = 0
    closed: JSON = None
    """The policy's state after the last closed step; None before the first."""
    open_steps: list[Step] = field(default_factory=list[Step])
    """Steps that are open, with the whole state in their plans."""


@dataclass(frozen=True, slots=True)
class ProposalRecord:
    """A proposal's outcome as stored."""

    step: int
    index: int
    intent: JSON
    program: int | None
    reason: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """A rollout as stored. `trajectory` is None while it has no result."""

    rollout: Rollout
    trajectory: Trajectory | None


RequestKind: TypeAlias = Literal["pause", "resume", "stop"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the owner of a run."""

    kind: RequestKind
    reason: str
    requester: str
    """User and host that made the request, such as "ada@laptop"."""
    time: float
    """Time of the request, in seconds since the Unix epoch."""

    @property
    def why(self) -> str:
        """The reason, and who asked, as shown with the run."""
        asked = f"asked by {self.requester}"
        return f"{self.reason} ({asked})" if self.reason else asked
