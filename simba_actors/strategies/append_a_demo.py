"""Add each predictor's call in the best trajectory of a bucket as a demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simba_actors.dspy_compat.custom_types import is_custom
from simba_actors.programs import Configuration
from simba_actors.search.rollout import JSON, TraceStep
from simba_actors.strategies.contract import Declined, StrategyContext

TRUNCATION_MARK = "\n\t\t... <TRUNCATED FOR BREVITY>"
"""The text that `dspy.SIMBA` puts at the end of an input that it cuts."""


@dataclass(frozen=True, slots=True)
class AppendADemo:
    """`dspy.SIMBA`'s append_a_demo: the last call of each predictor in the best trajectory becomes its newest demo.

    A trajectory in which an LM's reply was cut off at its token limit makes no demo.
    """

    demo_input_field_maxlen: int = 100_000
    """Characters at which an input is cut and marked, by default as in `dspy.SIMBA`; 0 means no limit."""
    longest_output: int = 0
    """Maximum number of characters of an output in a demo, since every later prompt has the demo; 0 means no limit."""

    @property
    def name(self) -> str:
        return "append_a_demo"

    def applicable(self, context: StrategyContext) -> Declined | None:
        best, p10 = context.buckets[0].best.trajectory.score, context.statistics.p10
        if best <= p10:
            return Declined(f"the best score of the bucket, {best}, is not above the batch's 10th percentile, {p10}")
        if context.buckets[0].best.trajectory.cut_off:
            return Declined("a reply in the best trajectory was cut off at its token limit; raise the LM's max_tokens")
        return None

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        trace = context.buckets[0].best.trajectory.trace
        if not trace:
            return Declined("none of the student's predictors was called in the best trajectory, so there is no demo")
        length = max((_length(value) for step in trace for value in step.outputs.values()), default=0)
        if 0 < self.longest_output < length:
            return Declined(
                f"an output of {length:,} characters would be in every prompt with the demo: {self.longest_output:,} "
                "is the most, unless you pass AppendADemo(longest_output=0)"
            )
        configuration = context.source
        for predictor, step in {step.predictor: step for step in trace}.items():
            demos = (*configuration.demos(predictor), self._demo(step))
            configuration = configuration.with_demos(predictor, demos)
        return configuration

    def _demo(self, step: TraceStep) -> dict[str, JSON]:
        return {"augmented": True, **cut(step.inputs, self.demo_input_field_maxlen), **step.outputs}


def cut(inputs: Mapping[str, JSON], limit: int) -> dict[str, JSON]:
    """Return `inputs`, each cut to `limit` characters and marked; 0 means no limit.

    Images, audio and files stay whole: a part of one is useless.
    """
    return {name: _cut(value, limit) for name, value in inputs.items()}


def _length(value: JSON) -> int:
    """Return the number of characters of an output; 0 for an image, audio or a file."""
    text = str(value)
    return 0 if is_custom(text) else len(text)


def _cut(value: JSON, limit: int) -> JSON:
    text = str(value)
    if not limit or len(text) <= limit or is_custom(text):
        return value
    return f"{text[:limit]}{TRUNCATION_MARK}"
