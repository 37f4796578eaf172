"""Put parts of several programs together."""

from __future__ import annotations

from dataclasses import dataclass

from simba_actors.programs import Configuration
from simba_actors.strategies.contract import Declined, StrategyContext


@dataclass(frozen=True, slots=True)
class Recombine:
    """The rules and demos that the policy chose from all programs of the pool, and nothing added to them.

    Which parts are worth trying together is decided by `simba_actors.search.adaptive.combination`; parts that do not
    pay are left out in the same way. Without such a choice, as under `policy="dspy"`, it declines.
    """

    @property
    def name(self) -> str:
        return "recombine"

    def applicable(self, context: StrategyContext) -> Declined | None:
        return None if context.combined else Declined("the policy chose no parts to combine")

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        return context.source
