"""What the adaptive policy keeps from one step to the next, as plain JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from simba_actors.search.adaptive.adaptation import Parameters
from simba_actors.search.adaptive.step_plan import Agenda
from simba_actors.search.batches import BatchOrder
from simba_actors.search.randomness import Draws
from simba_actors.search.trajectory import JSON


@dataclass(slots=True)
class AdaptiveState:
    """`shown` maps a demo's part to the train rows that it was made from; `questions` counts rules asked for.

    `rounds_before` counts rounds of finals that were run before the search went on with a larger budget.
    """

    draws: Draws
    batches: BatchOrder
    parameters: Parameters
    next_program: int = 1
    questions: int = 0
    shown: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    agenda: Agenda | None = None
    rounds_before: int = 0

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
            "rounds_before": self.rounds_before,
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
            data.get("rounds_before", 0),
        )
