"""State that the adaptive policy keeps between steps, as plain JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

from simba_actors.search.adaptive.adaptation import Parameters
from simba_actors.search.model.warm_start import WarmStart
from simba_actors.search.randomness import BatchOrder, Draws
from simba_actors.search.rollout import JSON

PartIds = tuple[str, ...]
"""Part ids, in the order of the prompt."""


@dataclass(frozen=True, slots=True)
class CandidatePlan:
    """The candidates that a step makes and evaluates once its samples are done. Planned when the step opens."""

    source: int
    """The best program, which counts as the parent of every candidate."""
    allocation: dict[str, int]
    """Number of applications of each strategy that makes new parts."""
    bases: tuple[PartIds, ...]
    """Combinations of known parts to add to, one per application."""
    demo_examples: tuple[tuple[int, ...], ...]
    """Train examples to make demos from, one list per application that makes demos from labels."""
    combinations: tuple[PartIds, ...]
    """Combinations of known parts to try as they are."""
    order: tuple[int, ...]
    """All train examples, in the order in which candidates are evaluated on them."""
    rollouts: int
    """Rollouts for the evaluation of all candidates together."""
    best_score: float
    """The highest score of any rollout before this step."""
    merges: bool = False
    """Whether the rules of `source` are merged, for one more candidate."""

    @property
    def most_candidates(self) -> int:
        """The number of candidates if no strategy declines."""
        return len(self.bases) + len(self.combinations) + self.merges

    # Keys keep the names that fields had in earlier versions, whose runs can be resumed.
    def to_json(self) -> JSON:
        return {
            "source": self.source,
            "lessons": dict(self.allocation),
            "bases": [list(parts) for parts in self.bases],
            "fills": [list(examples) for examples in self.demo_examples],
            "combinations": [list(parts) for parts in self.combinations],
            "order": list(self.order),
            "rollouts": self.rollouts,
            "best_score": self.best_score,
            "merges": self.merges,
        }

    @classmethod
    def from_json(cls, stored: JSON) -> CandidatePlan:
        data = cast("dict[str, Any]", stored)
        return cls(
            source=data["source"],
            allocation=dict(data["lessons"]),
            bases=tuple(tuple(parts) for parts in data["bases"]),
            demo_examples=tuple(tuple(examples) for examples in data.get("fills", ())),
            combinations=tuple(tuple(parts) for parts in data["combinations"]),
            order=tuple(data["order"]),
            rollouts=data["rollouts"],
            best_score=data["best_score"],
            merges=data.get("merges", False),
        )


@dataclass(frozen=True, slots=True)
class OpenStep:
    """What the plans of later steps need to know of a step that has not closed."""

    step: int
    rollouts: int
    """Rollouts that the step will take, and questions to strategies, each of which counts as a rollout."""
    combinations: tuple[PartIds, ...]
    """Combinations of known parts that the step tries."""

    def to_json(self) -> JSON:
        return [self.step, self.rollouts, [list(parts) for parts in self.combinations]]

    @classmethod
    def from_json(cls, stored: JSON) -> OpenStep:
        step, rollouts, combinations = cast("list[Any]", stored)
        return cls(step, rollouts, tuple(tuple(parts) for parts in combinations))


@dataclass(slots=True)
class AdaptiveState:
    """The state of the adaptive policy."""

    draws: Draws
    batches: BatchOrder
    parameters: Parameters
    steps_at_once: int = 1
    """Maximum number of steps that the run has open at a time."""
    next_program: int = 1
    """The number of the next new program."""
    open_steps: tuple[OpenStep, ...] = ()
    """The step that opened last, and those that had not closed by then."""
    steps_closed: int = 0
    questions: int = 0
    """Number of times that strategies were asked for new parts; each counts as one rollout."""
    made_from: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """The train examples that each demo was made from, by part id."""
    candidate_plan: CandidatePlan | None = None
    """Candidates of the step that opened last; None after a step has closed."""
    rounds_before: int = 0
    """Rounds of finals that were run before the search continued with a larger budget."""
    warm_start: WarmStart = field(default_factory=WarmStart)
    """Starting point of the next fit of the model."""
    steps: int = 0
    """Number of steps of the whole run: more than `max_steps` if it continued with a larger budget; 0 for
    `max_steps`."""
    rollouts: int = 0
    """Maximum number of rollouts of the whole run when the last step was opened; 0 if unknown."""

    def to_json(self) -> JSON:
        return {
            "draws": self.draws.to_json(),
            "order": list(self.batches.order),
            "used": self.batches.used,
            "parameters": self.parameters.to_json(),
            "steps_at_once": self.steps_at_once,
            "open_steps": [step.to_json() for step in self.open_steps],
            "steps_closed": self.steps_closed,
            "next_program": self.next_program,
            "questions": self.questions,
            "shown": {part_id: list(examples) for part_id, examples in self.made_from.items()},
            "agenda": None if self.candidate_plan is None else self.candidate_plan.to_json(),
            "rounds_before": self.rounds_before,
            "mode": self.warm_start.to_json(),
            "steps": self.steps,
            "rollouts": self.rollouts,
        }

    @classmethod
    def from_json(cls, stored: JSON) -> AdaptiveState:
        data = cast("dict[str, Any]", stored)
        return cls(
            draws=Draws.from_json(data["draws"]),
            batches=BatchOrder(tuple(data["order"]), data["used"]),
            parameters=Parameters.from_json(data["parameters"]),
            steps_at_once=stored_steps_at_once(stored),
            open_steps=tuple(OpenStep.from_json(step) for step in data.get("open_steps", ())),
            steps_closed=data.get("steps_closed", 0),
            next_program=data["next_program"],
            questions=data["questions"],
            made_from={part_id: list(examples) for part_id, examples in data["shown"].items()},
            candidate_plan=None if data["agenda"] is None else CandidatePlan.from_json(data["agenda"]),
            rounds_before=data.get("rounds_before", 0),
            warm_start=stored_warm_start(stored),
            steps=data.get("steps", 0),
            rollouts=data.get("rollouts", 0),
        )

    def updated_by(self, closed: AdaptiveState) -> AdaptiveState:
        """Return this state, that of a plan, with what the steps that have closed since then have changed."""
        return replace(
            self,
            parameters=closed.parameters,
            questions=closed.questions,
            made_from=closed.made_from,
            steps_closed=closed.steps_closed,
            rounds_before=closed.rounds_before,
            warm_start=closed.warm_start,
        )


def stored_warm_start(state: JSON) -> WarmStart:
    """Return the warm start of a stored state, an empty one if an earlier version stored the state."""
    stored = cast("dict[str, Any]", state).get("mode")
    return WarmStart() if stored is None else WarmStart.from_json(stored)


def stored_steps_at_once(state: JSON) -> int:
    """Return the maximum number of steps that the run has open at a time: 1 if an earlier version stored the state."""
    return cast("dict[str, Any]", state).get("steps_at_once", 1)
