"""Planned work: which program is to run on which example with which LM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Phase: TypeAlias = Literal["sample", "evaluate", "final"]
"""Why a rollout runs: to find trajectories to learn from, to score a candidate, or to choose the winner."""

Split: TypeAlias = Literal["train", "val"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """An LM of the run's model pool, with what is set on the copy that a rollout uses.

    `ModelSpec()` is the student's own LM, untouched. `ModelSpec("student", rollout_id=3, temperature=1.0)` is a copy of
    it that samples afresh; `ModelSpec("teacher", rollout_id=0)` the teacher's.
    """

    lm: str = "student"
    rollout_id: int | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True, order=True)
class RolloutKey:
    """A rollout's identity within its run: the same before and after a crash."""

    step: int
    phase: Phase
    position: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """The intent to run `program` (its number in the pool) on row `example` of `split` with `model`."""

    key: RolloutKey
    program: int
    example: int
    model: ModelSpec = ModelSpec()
    split: Split = "train"
