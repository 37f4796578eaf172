"""What the adaptive policy keeps from one step to the next, as plain JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from simba_actors.algorithm.adaptation import Parameters
from simba_actors.algorithm.batches import BatchOrder
from simba_actors.algorithm.randomness import Draws
from simba_actors.algorithm.trajectory import JSON


@dataclass(frozen=True, slots=True)
class Agenda:
    """What a step is to do once its samples are in.

    `lessons` says how often to apply each strategy that makes new parts, and `bases` has the combination of known parts
    that each application adds to; `source` is the best program, which they come from in the main. `combinations` are to
    be tried as they are. `order` are the train rows to evaluate on, `rollouts` how many all candidates have together,
    and `best_score` is the highest that any rollout had before.
    """

    source: int
    lessons: dict[str, int]
    bases: tuple[tuple[str, ...], ...]
    combinations: tuple[tuple[str, ...], ...]
    order: tuple[int, ...]
    rollouts: int
    best_score: float

    def to_json(self) -> JSON:
        return {
            "source": self.source,
            "lessons": dict(self.lessons),
            "bases": [list(parts) for parts in self.bases],
            "combinations": [list(parts) for parts in self.combinations],
            "order": list(self.order),
            "rollouts": self.rollouts,
            "best_score": self.best_score,
        }

    @classmethod
    def from_json(cls, stored: JSON) -> Agenda:
        data = cast("dict[str, Any]", stored)
        return cls(
            data["source"],
            dict(data["lessons"]),
            tuple(tuple(parts) for parts in data["bases"]),
            tuple(tuple(parts) for parts in data["combinations"]),
            tuple(data["order"]),
            data["rollouts"],
            data["best_score"],
        )


@dataclass(slots=True)
class AdaptiveState:
    """`shown` maps a demo's part to the train rows that it was made from; `questions` counts rules asked for."""

    draws: Draws
    batches: BatchOrder
    parameters: Parameters
    next_program: int = 1
    questions: int = 0
    shown: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    agenda: Agenda | None = None

    def to_json(self) -> JSON:
        return {
            "draws": self.draws.to_json(),
            "order": list(self.batches.order),
            "used": self.batches.used,
            "parameters": self.parameters.to_json(),
            "next_program": self.next_program,
            "questions": self.questions,
            "shown": {part_id: list(rows) for part_id, rows in self.shown.items()},
            "agenda": None if self.agenda is None else self.agenda.to_json(),
        }

    @classmethod
    def from_json(cls, stored: JSON) -> AdaptiveState:
        data = cast("dict[str, Any]", stored)
        return cls(
            Draws.from_json(data["draws"]),
            BatchOrder(tuple(data["order"]), data["used"]),
            Parameters.from_json(data["parameters"]),
            data["next_program"],
            data["questions"],
            {part_id: list(rows) for part_id, rows in data["shown"].items()},
            None if data["agenda"] is None else Agenda.from_json(data["agenda"]),
        )
