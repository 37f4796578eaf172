"""The interface of a strategy: its input and its result. The class `Strategy` has an example."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

import dspy

from simba_actors.programs import Configuration
from simba_actors.search.buckets import BatchStatistics, Bucket

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Declined:
    """A strategy's answer when it makes no configuration: `return Declined("no example went well")`."""

    reason: str
    """Why, for the run's log and the dashboard."""


class PromptModel(Protocol):
    """The LM that reads trajectories and writes instructions."""

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        """Return the LM's answer to `signature`.

        Raises:
            PromptTooLongError: The prompt exceeds the LM's context window.
            ReplyCutOffError: The reply ended at its token limit, also when asked again with more room.
            Exception: What `dspy.Predict` raises for a reply that can't be parsed.
        """
        ...


class ThreadRunner(Protocol):
    """Runs a call that takes long in a thread."""

    async def __call__(self, call: Callable[[], R], /) -> R:
        """Return what `call()` returns."""
        ...


@dataclass(frozen=True)
class StrategyContext:
    """What one application of a strategy may use: the configuration to start from, and evidence."""

    source: Configuration
    """The configuration to start from, with demos already dropped."""
    student: Configuration
    """The student's own configuration."""
    make_program: Callable[[], dspy.Module]
    """Applies `source` to a copy of the student; use `program`."""
    buckets: tuple[Bucket, ...]
    """The buckets to learn from, the most instructive one first."""
    examples: tuple[dspy.Example, ...]
    """The train examples to learn from, in the order of their buckets."""
    statistics: BatchStatistics
    """The distribution of all scores that the step sampled."""
    prompt_model: PromptModel
    """The LM that writes instructions. Its calls are governed, counted and stored."""
    combined: bool = False
    """Whether the policy put `source` together from parts of several programs."""
    in_thread: ThreadRunner = asyncio.to_thread
    """Runs work that would block the event loop, such as making a long prompt: `await in_thread(make_prompt)`."""

    @cached_property
    def program(self) -> dspy.Module:
        """The student with `source` applied."""
        return self.make_program()


@runtime_checkable
class Strategy(Protocol):
    """Makes a new configuration or says why not.

        class Shorten:
            name = "shorten"

            def applicable(self, context):
                return None

            async def apply(self, context):
                predictor = context.source.predictors[0]
                first_line = context.source.instructions(predictor).splitlines()[0]
                return context.source.with_instructions(predictor, first_line)

        config = OptimizerConfig(…, strategies=[Shorten(), AppendADemo()])

    A strategy has no state: it may be applied many times at once.
    """

    @property
    def name(self) -> str:
        """The strategy's name in the store and in events."""
        ...

    def applicable(self, context: StrategyContext) -> Declined | None:
        """Return None if the strategy can be applied. It must be cheap and call no LM. Called in a thread."""
        ...

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        """Return the new configuration. Called in the run's event loop, and only if `applicable` returned None.

        An error makes no candidate and is logged; an outage of the LM pauses the run, and `apply` is called again.
        """
        ...
