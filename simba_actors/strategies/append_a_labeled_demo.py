"""Show each predictor an example as the trainset has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.algorithm.trajectory import JSON
from simba_actors.programs import Configuration, to_json_value
from simba_actors.strategies.append_a_demo import cut
from simba_actors.strategies.contract import Declined, StrategyContext


@dataclass(frozen=True, slots=True)
class AppendALabeledDemo:
    """A demo from the labels of an example, as in `dspy.LabeledFewShot`: for examples that no trajectory got right.

    A class that the LM never gives has no trajectory to learn it from. Only for predictors all of whose fields the
    example has; an answer that comes with its reasoning, say, is not among the labels. Inputs are cut as in
    `AppendADemo`.
    """

    demo_input_field_maxlen: int = 100_000

    @property
    def name(self) -> str:
        return "append_a_labeled_demo"

    def applicable(self, context: StrategyContext) -> Declined | None:
        if self._demos(context):
            return None
        return Declined("the example lacks fields of every predictor, so its labels make no demo")

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        configuration = context.source
        for predictor, demo in self._demos(context).items():
            configuration = configuration.with_demos(predictor, (*configuration.demos(predictor), demo))
        return configuration

    def _demos(self, context: StrategyContext) -> Mapping[str, dict[str, JSON]]:
        """The demo of each predictor that the first example can make one for."""
        example = {
            name: to_json_value(value) for name, value in cast("dict[str, Any]", dict(context.examples[0])).items()
        }
        demos: dict[str, dict[str, JSON]] = {}
        for name, predictor in cast("list[tuple[str, Any]]", context.program.named_predictors()):
            inputs, outputs = predictor.signature.input_fields, predictor.signature.output_fields
            if not {*inputs, *outputs} - example.keys():
                shown = cut({field: example[field] for field in inputs}, self.demo_input_field_maxlen)
                demos[name] = {**shown, **{field: example[field] for field in outputs}}
        return demos
