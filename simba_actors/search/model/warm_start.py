"""What one fit of the model leaves for the next: it is kept in the run's state, so a resumed run has it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from simba_actors.search.rollout import JSON

DIGITS = 4
"""Decimal places to keep. A fit finds the same mode from any start, so fewer digits only save space in the store."""


class PartEffect(NamedTuple):
    """Effects of a part as found by a fit, in log-odds."""

    everywhere: float
    nearby: float
    """Additional effect on an example that the part is about."""
    promise: float
    """Mean effect on an example if the part is one standard deviation better than estimated."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The effects that a fit found, from which the next one starts. Empty before the first fit."""

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
    def from_json(cls, stored: JSON) -> WarmStart:
        data = cast("dict[str, Any]", stored)
        return cls(
            tuple(data["common"]),
            {part_id: PartEffect(*effect) for part_id, effect in data["parts"].items()},
            tuple(data["order"]),
            data["order_matters"],
            data["order_tested_with"],
        )
