"""Add labeled examples of the trainset as demos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.programs import Configuration, to_json_value
from simba_actors.search.rollout import JSON
from simba_actors.strategies.append_a_demo import cut
from simba_actors.strategies.contract import Declined, StrategyContext


@dataclass(frozen=True, slots=True)
class AppendLabeledDemos:
    """Demos from the labels of examples, as in `dspy.LabeledFewShot`. No trajectory has to get them right first.

        OptimizerConfig(…, strategies=[AppendLabeledDemos(), AppendADemo(), LearnFromFailures(), Recombine()])

    This helps where the LM never predicts some class, and lets whole sets of demos be tried before anything is known
    about them. A predictor gets a demo only from examples that have all of its fields. `dspy.ChainOfThought`, for
    example, also has the field `reasoning`, which labels rarely include.
    """

    demo_input_field_maxlen: int = 100_000
    """Characters at which an input is cut and marked; 0 means no limit."""

    @property
    def name(self) -> str:
        return "append_labeled_demos"

    def applicable(self, context: StrategyContext) -> Declined | None:
        if any(self._demos(context).values()):
            return None
        return Declined("the examples lack fields of every predictor, so their labels make no demo")

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        configuration = context.source
        for predictor, demos in self._demos(context).items():
            configuration = configuration.with_demos(predictor, (*configuration.demos(predictor), *demos))
        return configuration

    def _demos(self, context: StrategyContext) -> Mapping[str, list[dict[str, JSON]]]:
        """Return the demos that the examples make for each predictor."""
        examples = [
            {name: to_json_value(value) for name, value in cast("dict[str, Any]", dict(example)).items()}
            for example in context.examples
        ]
        predictors = cast("list[tuple[str, Any]]", context.program.named_predictors())
        return {name: self._demos_of(predictor.signature, examples) for name, predictor in predictors}

    def _demos_of(self, signature: Any, examples: Sequence[Mapping[str, JSON]]) -> list[dict[str, JSON]]:
        inputs, outputs = signature.input_fields, signature.output_fields
        return [
            {
                **cut({field: example[field] for field in inputs}, self.demo_input_field_maxlen),
                **{field: example[field] for field in outputs},
            }
            for example in examples
            if not {*inputs, *outputs} - example.keys()
        ]
