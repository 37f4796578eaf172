"""The contract between a run and the policy that decides what it does next.

A policy is a set of pure functions from the run's stored state and evidence to the next work. The team of actors does
that work and stores the results. A policy never waits, and draws only from generators kept in its state. After a crash
it is asked again with the same stored values and must give the same answers. A decision is made only when all the work
that it depends on is done, so it never depends on the order in which replies arrive.

A step runs like this::

    plan = policy.open_step(opened, closed, step, evidence, pool)       # plan.rollouts are its samples
    buckets = rank_buckets(plan.batch, scores)
    proposals = policy.proposals(plan, buckets, failed, pool)   # again as long as proposals fail and new ones follow
    rollouts = policy.evaluation(plan, proposal, pool)          # for each candidate, as soon as it exists
    result = policy.close_step(closed, TriedStep(plan, proposals, candidates), evidence, pool)

Several steps may be open at a time, so that some run rollouts while others wait for strategies or for their last
replies. They close in the order in which they opened, and each plan rests on closed steps alone: with 2 steps at once,
step 7 is planned when step 5 closes, and knows only the plan of step 6. So a plan never depends on which replies arrive
first.

After the last step come `final_rollouts`, until there are none, and then `ranking`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from simba_actors.search.adaptive.adaptation import Adaptation
from simba_actors.search.buckets import BucketScores
from simba_actors.search.clear_winner import ClearWinner
from simba_actors.search.evidence import Evidence
from simba_actors.search.model.parts import Part
from simba_actors.search.quality import Outlook, Quality
from simba_actors.search.rollout import JSON, Rollout


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Plan of a step's samples, drawn when the step opens."""

    step: int
    batch: tuple[int, ...]
    """The mini-batch: indices into the trainset."""
    rollouts: tuple[Rollout, ...]
    """The rollouts that sample trajectories on the batch."""
    first_program: int
    """The number of the step's first new program; the proposal with index n makes `first_program + n`."""
    state: JSON
    """The policy's state after these draws."""
    pool_end: int
    """The step builds on programs with numbers below this one: those of the steps that were closed when it opened."""

    def to_json(self) -> JSON:
        """Return everything but the rollouts, which have rows of their own in the store."""
        return {
            "batch": list(self.batch),
            "first_program": self.first_program,
            "state": self.state,
            "pool_end": self.pool_end,
        }

    @classmethod
    def from_json(cls, step: int, stored: JSON) -> StepPlan:
        data = cast("dict[str, Any]", stored)
        first = data["first_program"]
        return cls(step, tuple(data["batch"]), (), first, data["state"], data.get("pool_end", first))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A planned application of a strategy."""

    index: int
    """Index of the proposal in its step, counted from 0."""
    program: int
    """The number of the program that it makes."""
    source: int
    """The program to start from."""
    examples: tuple[int, ...]
    """Indices into the trainset of the examples to learn from."""
    strategies: tuple[str, ...]
    """Names of strategies, tried in order until one does not decline."""
    drop: tuple[int, ...] = ()
    """Indices of demos to drop from each predictor of the source first."""
    parts: tuple[str, ...] | None = None
    """Ids of the parts to start from; None starts from the source as it is."""

    def to_json(self) -> JSON:
        """Return the data that the store keeps besides the index and the program."""
        return {
            "source": self.source,
            "examples": list(self.examples),
            "strategies": list(self.strategies),
            "drop": list(self.drop),
            "parts": None if self.parts is None else list(self.parts),
        }


@dataclass(frozen=True, slots=True)
class TriedStep:
    """What was tried in a step."""

    plan: StepPlan
    proposals: tuple[Proposal, ...]
    """All that were tried."""
    candidates: tuple[int, ...]
    """Numbers of the programs that they made."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """Result of a closed step, passed on to the next."""

    state: JSON
    """The policy's state after the step."""
    scores: Mapping[int, float]
    """The mean score of each of the step's candidates over its rollouts in the step."""
    winner: int | None
    """The candidate that seems best by all that is known; None if there are none."""
    best: Quality | None = None
    """The best program of the whole run so far; None if none was evaluated."""
    adaptations: tuple[Adaptation, ...] = ()
    """Changes of the search's own parameters, for the record. The values in force are part of the state."""
    outlook: Outlook | None = None
    """What the rest of the search is expected to add; None if the policy makes no such estimate."""

    def to_json(self) -> JSON:
        return {
            "state": self.state,
            "scores": [[program, score] for program, score in self.scores.items()],
            "winner": self.winner,
            "best": None if self.best is None else self.best.to_json(),
            "adaptations": [adaptation.to_json() for adaptation in self.adaptations],
            "outlook": None if self.outlook is None else self.outlook.to_json(),
        }

    @classmethod
    def from_json(cls, stored: JSON) -> StepResult:
        data = cast("dict[str, Any]", stored)
        best = Quality.from_json(data.get("best"))
        adaptations = tuple(Adaptation(*stored) for stored in data.get("adaptations", ()))
        outlook = Outlook.from_json(data.get("outlook"))
        return cls(data["state"], dict(data["scores"]), data["winner"], best, adaptations, outlook)


class Pool(Protocol):
    """Read-only view of the programs, for policies."""

    def programs(self) -> Sequence[int]:
        """Return the numbers of all programs, ascending."""
        ...

    def parts(self, program: int) -> tuple[Part, ...]:
        """Return the parts that the program adds to the student's own instructions."""
        ...

    def free_parts(self) -> tuple[Part, ...]:
        """Return parts that any program can have: values of LM settings, and omissions of the student's sentences."""
        ...

    def demos(self, program: int) -> int:
        """Return the number of demos of the predictor that has the most."""
        ...


class Policy(Protocol):
    """Decides what a run does next. The module's docstring shows the order of the calls."""

    @property
    def declined_makes_a_copy(self) -> bool:
        """Whether a proposal that all strategies declined yields a copy of its source, as in `dspy.SIMBA`."""
        ...

    def initial_state(self) -> JSON:
        """Return the state before the first step."""
        ...

    def rollouts_expected(self, first_step: int) -> int:
        """Return about how many rollouts the whole run makes, given how many its first step made."""
        ...

    def steps_at_once(self, state: JSON, closed: int) -> int:
        """Return how many steps to keep open after `closed` steps have closed. The initial state decides it."""
        ...

    def open_step(self, opened: JSON, closed: JSON, step: int, evidence: Evidence, pool: Pool) -> StepPlan | None:
        """Plan the next step. Return None if there is none to open, at least until another step closes.

        Args:
            opened: The state after the plan of the step that opened last.
            closed: The state after the step that closed last. If no step is open, `opened` is the same.
            step: The step's number.
            evidence: The scores of closed steps.
            pool: The programs of closed steps.
        """
        ...

    def may_continue(self, state: JSON, step: int, evidence: Evidence) -> bool:
        """Return whether a search that was over can continue, because the run may make more rollouts than before."""
        ...

    def proposals(
        self, plan: StepPlan, buckets: Sequence[BucketScores], failed: int, pool: Pool
    ) -> tuple[Proposal, ...]:
        """Return the step's proposals in order, given that `failed` of them made no program.

        More failures can only add proposals at the end.
        """
        ...

    def evaluation(self, plan: StepPlan, proposal: Proposal, pool: Pool) -> tuple[Rollout, ...]:
        """Plan the rollouts of the candidate that the proposal made. It is not in `pool` yet."""
        ...

    def close_step(self, closed: JSON, tried: TriedStep, evidence: Evidence, pool: Pool) -> StepResult:
        """Close a step. `closed` is the state after the step before it, and `pool` has the step's candidates too."""
        ...

    def final_rollouts(self, state: JSON, evidence: Evidence, pool: Pool) -> tuple[Rollout, ...]:
        """Plan rollouts to choose the winner by. Called again when they are done, until there are none."""
        ...

    def ranking(self, state: JSON, evidence: Evidence, pool: Pool) -> list[tuple[int, float]]:
        """Return (program, score) pairs by all the evidence there is, the winner first.

        The order may rest on more than the scores, which are the means of each program's own rollouts.
        A program without a rollout is left out, so there are none before the first rollout has ended.
        """
        ...

    def clear_winner(
        self, incumbent: int, learned_from: Mapping[int, Collection[int]], evidence: Evidence, pool: Pool
    ) -> ClearWinner | None:
        """Return the program that is better than the `incumbent` beyond doubt, if there is one.

        `learned_from` maps each program to the train examples that it was made from.
        """
        ...

    def scores(self, programs: Sequence[int], evidence: Evidence) -> dict[int, float]:
        """Return each finalist's score as in `ranking`, from the evidence of one objective."""
        ...
