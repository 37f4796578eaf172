"""Planned work: which program to run on which example with which LM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

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
    """The rollout's place in the phase of its step."""

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
