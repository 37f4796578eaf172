"""A rollout: the intent to run one program on one example, and the result.

Both are plain data, which crosses process and storage boundaries unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
else:
    from typing_extensions import TypeAliasType

    # Pydantic can't follow a plain alias that refers to itself.
    JSON = TypeAliasType("JSON", "bool | int | float | str | list[JSON] | dict[str, JSON] | None")

Phase: TypeAlias = Literal["sample", "evaluate", "final"]
"""Why a rollout runs: to find trajectories to learn from, to score a candidate, or to choose the winner."""

Split: TypeAlias = Literal["train", "val"]

STUDENT = 0
"""The number, in every pool, of the program that is the student itself."""

STUDENT_LM = "student"
"""Name of the student's own LM in the model pool of a run."""

FINAL_STEP = -1
"""The step number of final rollouts, which belong to no step."""

POSITIONS_PER_ROUND = 100_000
"""Positions reserved for each round of finals. It must not change: stored keys depend on it."""

_Number = TypeVar("_Number", int, float)


# ── intents ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """An LM of the run's model pool, with what is set on the copy that a rollout uses.

    `ModelSpec()` is the student's own LM, unchanged. `ModelSpec(rollout_id=3, temperature=1.0)` is a copy of it that
    samples afresh, and `ModelSpec("teacher", rollout_id=0)` a copy of the teacher's.
    """

    lm: str = STUDENT_LM
    """The LM's name in the pool."""
    rollout_id: int | None = None
    """Distinguishes calls that would otherwise share a cached reply. None leaves the LM's own."""
    temperature: float | None = None
    """Sampling temperature. None leaves the LM's own."""

    @property
    def is_student_lm(self) -> bool:
        """Whether this is the student's own LM, with or without changed settings."""
        return self.lm == STUDENT_LM


@dataclass(frozen=True, slots=True, order=True)
class RolloutKey:
    """A rollout's identity within its run: the same before and after a crash."""

    step: int
    """The step, counted from 0; `FINAL_STEP` for final rollouts."""
    phase: Phase
    position: int
    """The rollout's index among those of its step and phase. Positions may have gaps."""

    @classmethod
    def of_final(cls, round_number: int, index: int) -> RolloutKey:
        """Return the key of a final rollout: number `index` of a round, both counted from 0."""
        return cls(FINAL_STEP, "final", round_number * POSITIONS_PER_ROUND + index)

    @property
    def round_number(self) -> int:
        """The round of finals that `of_final` put the rollout in."""
        return self.position // POSITIONS_PER_ROUND


@dataclass(frozen=True, slots=True)
class Rollout:
    """The intent to run one program on one example."""

    key: RolloutKey
    program: int
    """The program's number in the pool."""
    example: int
    """The example's index in its split."""
    model: ModelSpec = ModelSpec()
    split: Split = "train"


# ── results ───────────────────────────────────────────────────────────────────────────────────────────────────────────


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
