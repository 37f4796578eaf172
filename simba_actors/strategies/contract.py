"""What a strategy is given and what it gives back.

class Shout:
    name = "shout"

    def applicable(self, context: StrategyContext) -> Declined | None:
        return None

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        configuration = context.source
        for predictor in configuration.predictors:
            configuration = configuration.with_instructions(predictor, configuration.instructions(predictor).upper())
        return configuration
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import dspy

from simba_actors.programs import Configuration
from simba_actors.search.buckets import BatchStatistics, Bucket


@dataclass(frozen=True, slots=True)
class Declined:
    """Why a strategy makes no configuration here."""

    reason: str


class PromptModel(Protocol):
    """The LM that reads trajectories and writes instructions."""

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        """The LM's answer to `signature`. Raises what `dspy.Predict` raises when the reply can't be parsed."""
        ...


@dataclass(frozen=True)
class StrategyContext:
    """The evidence that one application of a strategy may use.

    `source` is the configuration to start from, with demos already dropped, `student` the student's own, and
    `program` the student with `source` applied, which `make_program` makes when it is first asked for. `buckets` are
    those to learn from, most instructive first, and `examples` their rows of the trainset. `statistics` describe all
    samples of the step. `combined` says that the policy put `source` together from parts of several programs.
    """

    source: Configuration
    student: Configuration
    make_program: Callable[[], dspy.Module]
    buckets: tuple[Bucket, ...]
    examples: tuple[dspy.Example, ...]
    statistics: BatchStatistics
    prompt_model: PromptModel
    combined: bool = False

    @cached_property
    def program(self) -> dspy.Module:
        return self.make_program()


@runtime_checkable
class Strategy(Protocol):
    """Makes a new configuration, or says why not. A strategy keeps no state: it may be applied many times at once."""

    @property
    def name(self) -> str:
        """How the strategy is called in the store and in events."""
        ...

    def applicable(self, context: StrategyContext) -> Declined | None:
        """None where the strategy can be applied. Cheap: no LM is called here."""
        ...

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        """The new configuration. Called only where `applicable` had no objection."""
        ...
