"""Combine parts of several programs."""

from __future__ import annotations

from dataclasses import dataclass

from simba_actors.programs import Configuration
from simba_actors.strategies.contract import Declined, StrategyContext


@dataclass(frozen=True, slots=True)
class Recombine:
    """The rules and demos that the policy chose from all programs of the pool, with nothing added.

    The adaptive policy chooses parts that are worth trying together and leaves out those that do not pay (see
    `simba_actors.search.adaptive.exploration`). `policy="dspy"` makes no such choice, so the strategy declines there.
    """

    @property
    def name(self) -> str:
        return "recombine"

    def applicable(self, context: StrategyContext) -> Declined | None:
        return None if context.combined else Declined("the policy chose no parts to combine")

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        return context.source
