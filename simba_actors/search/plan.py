"""Planned work: which program is to run on which example with which LM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Phase: TypeAlias = Literal["sample", "evaluate", "final"]
"""Why a rollout runs: to find trajectories to learn from, to score a candidate, or to choose the winner."""

Split: TypeAlias = Literal["train", "val"]

STUDENT_LM = "student"
"""The name, in a run's model pool, of the LM that the student uses by itself."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """An LM of the run's model pool, with what is set on the copy that a rollout uses.

    `ModelSpec()` is the student's own LM, untouched. `ModelSpec(rollout_id=3, temperature=1.0)` is a copy of it that
    samples afresh, and `ModelSpec("teacher", rollout_id=0)` a copy of the teacher's.
    """

    lm: str = STUDENT_LM
    rollout_id: int | None = None
    temperature: float | None = None

    @property
    def is_student_lm(self) -> bool:
        """Whether this is the student's own LM, with or without settings changed."""
        return self.lm == STUDENT_LM


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
