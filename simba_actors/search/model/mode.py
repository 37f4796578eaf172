"""The effects that a fit found, kept with the run's state so that the next fit starts from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from simba_actors.search.trajectory import JSON

DIGITS = 4
"""Decimal places that are kept: any start leads to the same mode, and this one saves space in the store."""


class PartEffect(NamedTuple):
    """What a part was found to add, in log-odds."""

    everywhere: float
    nearby: float
    """On an example that the part is about."""
    promise: float
    """What it adds to an example on average, were it a standard deviation better than it seems."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What one fit hands on to the next. A run that is resumed reads it from the store, so both start alike."""

    common: tuple[float, ...] = ()
    """Effects of the columns that all programs share."""
    parts: Mapping[str, PartEffect] = field(default_factory=dict[str, PartEffect])
    """Every part that was ever fitted, by its id."""
    order: tuple[float, ...] = ()
    """Effects of the order of answers."""
    order_matters: bool = False
    order_tested_with: int = 0
    """How many scores there were when it was last asked whether the order matters."""

    def to_json(self) -> JSON:
        return {
            "common": list(self.common),
            "parts": {part_id: list(effect) for part_id, effect in self.parts.items()},
            "order": list(self.order),
            "order_matters": self.order_matters,
            "order_tested_with": self.order_tested_with,
        }

    @classmethod
    def from_json(cls, stored: JSON) -> Mode:
        data = cast("dict[str, Any]", stored)
        return cls(
            tuple(data["common"]),
            {part_id: PartEffect(*effect) for part_id, effect in data["parts"].items()},
            tuple(data["order"]),
            data["order_matters"],
            data["order_tested_with"],
        )
