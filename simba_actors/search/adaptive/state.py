"""State that the adaptive policy keeps between steps, as plain JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from simba_actors.search.adaptive.adaptation import Parameters
from simba_actors.search.model.mode import Mode
from simba_actors.search.randomness import BatchOrder, Draws
from simba_actors.search.trajectory import JSON

Parts = tuple[str, ...]
"""Part ids, in the order of the prompt."""


@dataclass(frozen=True, slots=True)
class CandidatePlan:
    """Candidates that a step makes and evaluates once its samples are done. Drawn when the step opens."""

    source: int
    """The best program, which counts as the parent of every candidate."""
    allocation: dict[str, int]
    """Number of applications of each strategy that makes new parts."""
    bases: tuple[Parts, ...]
    """Combinations of known parts to add to, one per application."""
    demo_examples: tuple[tuple[int, ...], ...]
    """Train examples to make demos from, one list per application that makes demos from labels."""
    combinations: tuple[Parts, ...]
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

    # The keys are those of runs that earlier versions stored.
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


@dataclass(slots=True)
class AdaptiveState:
    """The state of the adaptive policy."""

    draws: Draws
    batches: BatchOrder
    parameters: Parameters
    next_program: int = 1
    """The number of the next new program."""
    questions: int = 0
    """Number of times that strategies were asked for new parts; each counts as one rollout."""
    shown: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """The train examples that each demo was made from, by part id."""
    candidates: CandidatePlan | None = None
    """Candidates of the open step; None between steps."""
    rounds_before: int = 0
    """Rounds of finals that were run before the search continued with a larger budget."""
    mode: Mode = field(default_factory=Mode)
    """Starting point of the next fit of the model."""
    steps: int = 0
    """Number of steps of the whole run, more than the setting once it continued with a larger budget; 0 for the
    setting."""
    rollouts: int = 0
    """Maximum number of rollouts of the whole run when the last step was opened; 0 if unknown."""

    def to_json(self) -> JSON:
        return {
            "draws": self.draws.to_json(),
            "order": list(self.batches.order),
            "used": self.batches.used,
            "parameters": self.parameters.to_json(),
            "next_program": self.next_program,
            "questions": self.questions,
            "shown": {part_id: list(examples) for part_id, examples in self.shown.items()},
            "agenda": None if self.candidates is None else self.candidates.to_json(),
            "rounds_before": self.rounds_before,
            "mode": self.mode.to_json(),
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
            next_program=data["next_program"],
            questions=data["questions"],
            shown={part_id: list(examples) for part_id, examples in data["shown"].items()},
            candidates=None if data["agenda"] is None else CandidatePlan.from_json(data["agenda"]),
            rounds_before=data.get("rounds_before", 0),
            mode=stored_mode(stored),
            steps=data.get("steps", 0),
            rollouts=data.get("rollouts", 0),
        )


def stored_mode(state: JSON) -> Mode:
    """Return the mode of a stored state, or an empty one if an earlier version stored the state."""
    mode = cast("dict[str, Any]", state).get("mode")
    return Mode() if mode is None else Mode.from_json(mode)
