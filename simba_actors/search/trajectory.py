"""The result of a rollout as plain data, which crosses process and storage boundaries unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, TypeVar

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

_Number = TypeVar("_Number", int, float)


class Outcome(StrEnum):
    """Outcome of a rollout that counts as evidence.

    An LM that can't be reached is not an outcome: the rollout is retried, and its intent stays open until it has one.
    """

    SCORED = "scored"
    """The metric returned a number."""
    PROGRAM_FAILURE = "program_failure"
    """The student raised an error, or its LM's reply could not be parsed. The score is 0, as in DSPy."""


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One predictor's call within a rollout."""

    predictor: str
    """The predictor's name in the student."""
    inputs: Mapping[str, JSON]
    outputs: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of LM calls. None means that the provider did not report it, which is not the same as zero."""

    calls: int = 0
    """Requests that reached a provider. Cached replies do not count."""
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    cost: float | None = 0.0
    """Cost in US dollars."""

    @property
    def tokens(self) -> int | None:
        """Prompt and completion tokens together."""
        return _add(self.prompt_tokens, self.completion_tokens)

    def to_json(self) -> dict[str, JSON]:
        """Return the four numbers by name; None where the provider did not say."""
        return {
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self.cost,
        }

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            _add(self.prompt_tokens, other.prompt_tokens),
            _add(self.completion_tokens, other.completion_tokens),
            _add(self.cost, other.cost),
        )

    def __mul__(self, factor: float) -> Usage:
        """Scale by `factor`, rounding to whole calls and tokens."""
        prompt, completion = self.prompt_tokens, self.completion_tokens
        return Usage(
            round(self.calls * factor),
            None if prompt is None else round(prompt * factor),
            None if completion is None else round(completion * factor),
            None if self.cost is None else self.cost * factor,
        )


def _add(left: _Number | None, right: _Number | None) -> _Number | None:
    return None if left is None or right is None else left + right


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The evidence of one rollout: one program, run on one example with one LM, scored by the metric."""

    outcome: Outcome
    score: float
    """The score, in the metric's own type (a bool stays a bool), since the LM that writes rules sees it."""
    prediction: Mapping[str, JSON] | None
    """The program's outputs; None after a failure."""
    trace: tuple[TraceStep, ...]
    """The predictors' calls in order, up to the failure if there was one."""
    feedback: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    """The other fields of a `dspy.Prediction` that the metric returned."""
    usage: Usage = Usage()
    seconds: float = 0.0
    """Wall time."""
    error: str | None = None
    """The error of a program failure."""
    cut_off: bool = False
    """Whether a reply of an LM to the program ended at its token limit."""
    expected: Mapping[str, JSON] = field(default_factory=dict[str, JSON])
    """The example's labels, for people who read what went wrong."""
