"""What is written to and read from the store. Every value is plain JSON: no code, no pickle, no secrets.

A write is committed whole or not at all. The order of a run is always intent, work, result: `OpenStep` and
`AddRollouts` are intents, `RecordRollout` and `RecordProposal` results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from simba_actors.errors import RunError
from simba_actors.search.plan import Rollout, RolloutKey
from simba_actors.search.trajectory import JSON, Trajectory, Usage

RunStatus: TypeAlias = Literal["running", "waiting", "paused", "finished", "failed"]
"""See `simba_actors.team.run_state` for what each of them means, and how a run gets from one to another."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to create, or to go on with if the store has it.

    `fingerprint` maps each part that must not change between a run's lives ("student", "trainset", "metric", and one
    entry a setting) to a digest or a readable value. `settings` is what is shown to people.
    """

    run_id: str
    fingerprint: Mapping[str, str]
    settings: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Run:
    """A run as stored. Times are seconds since the Unix epoch; `result` is None until the run has finished."""

    run_id: str
    status: RunStatus
    reason: str | None
    fingerprint: Mapping[str, str]
    settings: Mapping[str, JSON]
    result: JSON
    created: float
    updated: float

    def ranking(self) -> list[tuple[int, float]]:
        """Return the finalists and their scores, the winner first. Raise RunError if there is no result yet."""
        if self.result is None:
            raise RunError(f"run {self.run_id!r} is {self.status} and has no result yet: start it again to continue")
        return cast("list[tuple[int, float]]", cast("dict[str, JSON]", self.result)["ranking"])


@dataclass(frozen=True, slots=True)
class Program:
    """A row of the pool. `configuration` is `Configuration.to_json()`; `provenance` is the evidence that made it."""

    number: int
    digest: str
    configuration: JSON
    parents: tuple[int, ...]
    strategy: str
    step: int
    provenance: JSON = None


@dataclass(frozen=True, slots=True)
class OpenStep:
    """Intent: a step with its plan (policy state and RNG state included) and its first rollouts."""

    step: int
    plan: JSON
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True)
class AddRollouts:
    """Intent: more rollouts. Those already there are left as they are."""

    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, slots=True)
class RecordRollout:
    """Result: what a rollout left, with its usage. A result that is there already stays."""

    key: RolloutKey
    trajectory: Trajectory


@dataclass(frozen=True, slots=True)
class RecordProposal:
    """Result of applying a strategy: the program it made, or the reason why there is none, and what it used.

    `rollouts` are the intents to evaluate the program, committed with it.
    """

    step: int
    index: int
    intent: JSON
    program: Program | None
    reason: str | None
    usage: Usage = Usage()
    rollouts: tuple[Rollout, ...] = ()


@dataclass(frozen=True, slots=True)
class AddProgram:
    """A program that no proposal made: the student itself, or one brought in from elsewhere."""

    program: Program


@dataclass(frozen=True, slots=True)
class CloseStep:
    """The end of a step: `result` is the policy's state for the next one, with the step's winner and scores.

    `progress` is `Progress.to_json()`: what the run had found and used by then.
    """

    step: int
    result: JSON
    progress: JSON = None


@dataclass(frozen=True, slots=True)
class SetStatus:
    status: RunStatus
    reason: str | None = None
    result: JSON = None


@dataclass(frozen=True, slots=True)
class ReserveCalls:
    """Count `calls` more LM calls as made, before they are sent."""

    calls: int


@dataclass(frozen=True, slots=True)
class RecordSpending:
    """What all calls of the run used so far, also those that led to no result, and how long it was up in seconds."""

    tokens: int
    cost: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Spending:
    """What a run is known to have spent."""

    calls: int = 0
    """LM calls that were reserved: sent, or about to be."""
    tokens: int = 0
    """Tokens of all calls whose use was reported."""
    cost: float = 0.0
    """US dollars of all calls whose cost was reported."""
    seconds: float = 0.0
    """How long the run was up, without pauses, by its owners' monotonic clocks."""


@dataclass(frozen=True, slots=True)
class ActorGauge:
    """How busy an actor is: messages in its mailbox, messages handled in this life, and its state in words."""

    actor: str
    mailbox: int
    handled: int
    state: str


@dataclass(frozen=True, slots=True)
class RecordGauges:
    """How busy the actors are now. Earlier gauges are overwritten."""

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
    """A step as stored; `result` is None while it is open."""

    step: int
    plan: JSON
    result: JSON


@dataclass(frozen=True, slots=True)
class ProposalRecord:
    """A strategy's outcome as stored."""

    step: int
    index: int
    intent: JSON
    program: int | None
    reason: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """A rollout as stored; `trajectory` is None while it has no result."""

    rollout: Rollout
    trajectory: Trajectory | None
