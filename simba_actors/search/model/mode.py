"""The effects that a fit found. They are kept with the run's state, and the next fit starts from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from simba_actors.search.rollout import JSON

DIGITS = 4
"""Decimal places to keep. Any start leads to the same mode, so fewer digits save space in the store."""


class PartEffect(NamedTuple):
    """Effects of a part as found by a fit, in log-odds."""

    everywhere: float
    nearby: float
    """Additional effect on an example that the part is about."""
    promise: float
    """Mean effect on an example if the part is one standard deviation better than estimated."""


@dataclass(frozen=True, slots=True)
class Mode:
    """Starting point that a fit leaves for the next one. It is stored, so that a resumed run starts from it too."""

    common: tuple[float, ...] = ()
    """Effects of the columns that all programs share."""
    parts: Mapping[str, PartEffect] = field(default_factory=dict[str, PartEffect])
    """Effects of every part that was ever fitted, by part id, as long as the model has a program with it."""
    order: tuple[float, ...] = ()
    """Effects of the order of answers."""
    order_matters: bool = False
    """Whether the last fit included the effects of the order."""
    order_tested_with: int = 0
    """Number of scores at the last test of whether the order matters."""

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
