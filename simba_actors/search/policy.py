"""The seam between a run and what decides it.

A policy is a set of pure functions from the run's stored state and evidence to the next work. The team of actors does
that work and stores what comes of it; a policy never waits, draws only from generators kept in its state, and is asked
again after a crash with the same stored values, to which it must give the same answers. Decisions are taken only when
all the work they depend on is in, so they never depend on the order in which replies arrive.

A step runs like this::

    plan = policy.open_step(state, step, evidence, pool)    # sample phase: plan.rollouts
    buckets = make_buckets(plan.batch, samples)
    proposals = policy.proposals(plan, buckets, failed, pool)   # again with more failed ones, until none is new
    rollouts = policy.evaluation(plan, proposal, pool)      # for each candidate, as soon as it is there
    rollouts = policy.next_round(plan, proposals, candidates, evidence, pool)  # when those are in; until it is empty
    result = policy.close_step(plan, proposals, candidates, evidence, pool)

and after the last one `final_rollouts` until they are empty, then `ranking`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from simba_actors.search.adaptive.adaptation import Adaptation
from simba_actors.search.adaptive.quality import Quality
from simba_actors.search.buckets import Bucket
from simba_actors.search.clear_winner import ClearWinner
from simba_actors.search.evidence import Evidence
from simba_actors.search.model.parts import Part
from simba_actors.search.plan import Rollout
from simba_actors.search.trajectory import JSON

STUDENT = 0
"""The number, in every pool, of the program that is the student itself."""

FINAL_STEP = -1
"""The step of final rollouts, which belong to none."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step's mini-batch (train rows), its sampling rollouts, and the policy's state once they are drawn.

    `first_program` is the number that the step's first new program will have; slot n makes `first_program + n`.
    """

    step: int
    batch: tuple[int, ...]
    rollouts: tuple[Rollout, ...]
    first_program: int
    state: JSON

    def to_json(self) -> JSON:
        """Without the rollouts, which the store keeps as rows of their own."""
        return {"batch": list(self.batch), "first_program": self.first_program, "state": self.state}

    @classmethod
    def from_json(cls, step: int, stored: JSON) -> StepPlan:
        data = cast("dict[str, Any]", stored)
        return cls(step, tuple(data["batch"]), (), data["first_program"], data["state"])


@dataclass(frozen=True, slots=True)
class Proposal:
    """A planned application of a strategy: which source program, what to learn from, which strategies in which order.

    `examples` are the train rows of the buckets to learn from; `drop` the indices of demos that the source forgets
    first; `strategies` are tried in order until one does not decline. `parts`, where given, are what to start from in
    place of the source as it is. `details` is for strategies that need more.
    """

    slot: int
    program: int
    source: int
    examples: tuple[int, ...]
    strategies: tuple[str, ...]
    drop: tuple[int, ...] = ()
    parts: tuple[str, ...] | None = None
    details: Mapping[str, JSON] = field(default_factory=dict[str, JSON])

    def to_json(self) -> JSON:
        return {
            "source": self.source,
            "examples": list(self.examples),
            "strategies": list(self.strategies),
            "drop": list(self.drop),
            "parts": None if self.parts is None else list(self.parts),
            "details": dict(self.details),
        }


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a closed step leaves to the next: the policy's state, the scores of its candidates, and the best of them.

    `best` is the best program of the whole run so far, None where nothing is known of any. `adaptations` are changes of
    the search's own parameters, for the record: what is in force is part of the state.
    """

    state: JSON
    scores: Mapping[int, float]
    winner: int | None
    best: Quality | None = None
    adaptations: tuple[Adaptation, ...] = ()

    def to_json(self) -> JSON:
        return {
            "state": self.state,
            "scores": [[program, score] for program, score in self.scores.items()],
            "winner": self.winner,
            "best": None if self.best is None else self.best.to_json(),
            "adaptations": [adaptation.to_json() for adaptation in self.adaptations],
        }

    @classmethod
    def from_json(cls, stored: JSON) -> StepResult:
        data = cast("dict[str, Any]", stored)
        best = Quality.from_json(data.get("best"))
        adaptations = tuple(Adaptation(*stored) for stored in data.get("adaptations", ()))
        return cls(data["state"], dict(data["scores"]), data["winner"], best, adaptations)


class Pool(Protocol):
    """What a policy may know of the programs themselves."""

    def programs(self) -> Sequence[int]:
        """The numbers of all programs, ascending."""
        ...

    def parts(self, program: int) -> tuple[Part, ...]:
        """What the program has beyond the student's own instructions."""
        ...

    def settings(self) -> tuple[Part, ...]:
        """Values of LM settings that any program can have."""
        ...

    def demos(self, program: int) -> int:
        """How many demos the program's predictor with the most of them has."""
        ...


class Policy(Protocol):
    """Decides what a run does next; see the module's docstring for the order of the calls."""

    @property
    def declined_makes_a_copy(self) -> bool:
        """Whether a strategy that declines leaves its source, demos dropped, as a candidate, as in `dspy.SIMBA`."""
        ...

    def initial_state(self) -> JSON: ...

    def open_step(self, state: JSON, step: int, evidence: Evidence, pool: Pool) -> StepPlan | None:
        """The next step, or None when the search is over."""
        ...

    def proposals(self, plan: StepPlan, buckets: Sequence[Bucket], failed: int, pool: Pool) -> tuple[Proposal, ...]:
        """The step's proposals in order, given that `failed` of them made no program; a longer tuple never changes
        the head of a shorter one."""
        ...

    def evaluation(self, plan: StepPlan, proposal: Proposal, pool: Pool) -> tuple[Rollout, ...]:
        """The first rollouts to score the candidate by that the proposal made; it is not in `pool` yet."""
        ...

    def next_round(
        self,
        plan: StepPlan,
        proposals: Sequence[Proposal],
        candidates: Sequence[int],
        evidence: Evidence,
        pool: Pool,
    ) -> tuple[Rollout, ...]:
        """More rollouts for candidates that deserve them, once all earlier ones are in; empty when the step is over."""
        ...

    def close_step(
        self,
        plan: StepPlan,
        proposals: Sequence[Proposal],
        candidates: Sequence[int],
        evidence: Evidence,
        pool: Pool,
    ) -> StepResult:
        """The end of a step in which `proposals` were tried and made `candidates`, all of them evaluated."""
        ...

    def rollouts_ahead(self, state: JSON, steps_closed: int) -> tuple[Rollout, ...]:
        """Final rollouts that are needed however the run goes on, done when there is nothing else to do."""
        ...

    def final_rollouts(self, state: JSON, evidence: Evidence, pool: Pool) -> tuple[Rollout, ...]:
        """Rollouts to choose the winner by; asked again when they are in, until it answers with none."""
        ...

    def ranking(self, state: JSON, evidence: Evidence, pool: Pool) -> list[tuple[int, float]]:
        """(program, score), the winner first, by the evidence that there is."""
        ...

    def clear_winner(
        self, incumbent: int, learnt_from: Mapping[int, Collection[int]], evidence: Evidence, pool: Pool
    ) -> ClearWinner | None:
        """The program that is better than the `incumbent` beyond doubt, if one is. `learnt_from` has the train rows
        that each program was made from."""
        ...

    def estimates(self, programs: Sequence[int], evidence: Evidence, pool: Pool) -> dict[int, float]:
        """What each of these finalists is expected to score, by evidence of one of several objectives."""
        ...
