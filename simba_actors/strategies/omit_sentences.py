"""Leave out sentences of the student's own instructions that do not help."""

from __future__ import annotations

from dataclasses import dataclass

from simba_actors.programs import Configuration
from simba_actors.programs.parts import omissions, parts_of, with_parts
from simba_actors.strategies.contract import Declined, StrategyContext


@dataclass(frozen=True, slots=True)
class OmitSentences:
    """The student's own instructions without some of their sentences.

    Instructions that were wrong from the start can't be repaired by rules that are added to them (VISTA, arXiv
    2603.18388, 2026). The adaptive policy treats the omission of each sentence as a part like any rule: combinations
    try it, and its effect is estimated from all rollouts. If no sentence is left, DSPy's own instructions for the
    signature take their place. Applied by itself, the strategy omits one more sentence of each predictor.

    Leave it out of `strategies` if the instructions say things that the metric does not see, such as what never to
    reveal.
    """

    @property
    def name(self) -> str:
        return "omit_sentences"

    def applicable(self, context: StrategyContext) -> Declined | None:
        if self._omitted(context) == context.source:
            return Declined("the student's instructions have no sentence that could be omitted")
        return None

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        return await context.in_thread(lambda: self._omitted(context))

    def _omitted(self, context: StrategyContext) -> Configuration:
        """Return the source without the first sentence that each predictor still has of its own instructions."""
        known = parts_of(context.source, context.student)
        held = {entry.part.part_id for entry in known}
        replaced = {entry.part.predictor for entry in known if entry.part.kind == "instructions"}
        new = {
            entry.part.predictor: entry
            for entry in reversed(omissions(context.student))
            if entry.part.part_id not in held and entry.part.predictor not in replaced
        }
        return with_parts(context.source, context.student, tuple(new.values()))
