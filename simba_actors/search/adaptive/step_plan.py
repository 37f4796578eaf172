"""The plan of one step of the adaptive policy, made before its samples are in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from simba_actors.search.trajectory import JSON


@dataclass(frozen=True, slots=True)
class Agenda:
    """What a step is to do once its samples are in.

    `lessons` says how often to apply each strategy that makes new parts, and `bases` has the combination of known parts
    that each application adds to; `fills` has the train rows of each application that makes demos from labels.
    `source` is the best program, which they come from in the main. `combinations` are to be tried as they are. `order`
    are the train rows to evaluate on, `rollouts` how many all candidates have together, and `best_score` is the highest
    that any rollout had before.
    """

    source: int
    lessons: dict[str, int]
    bases: tuple[tuple[str, ...], ...]
    fills: tuple[tuple[int, ...], ...]
    combinations: tuple[tuple[str, ...], ...]
    order: tuple[int, ...]
    rollouts: int
    best_score: float

    def to_json(self) -> JSON:
        return {
            "source": self.source,
            "lessons": dict(self.lessons),
            "bases": [list(parts) for parts in self.bases],
            "fills": [list(rows) for rows in self.fills],
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
            tuple(tuple(rows) for rows in data.get("fills", ())),  # Steps that older versions opened have none.
            tuple(tuple(parts) for parts in data["combinations"]),
            tuple(data["order"]),
            data["rollouts"],
            data["best_score"],
        )
