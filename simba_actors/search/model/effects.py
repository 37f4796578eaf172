"""The effects in the model of parts, and the range of the scores that they explain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simba_actors.search.statistics.linear_algebra import Matrix, Vector

LEVEL, RESAMPLED, RULES, DEMOS, CROWDING, SAME_ANSWER, SHOWN, PARTS = range(8)
"""Columns of the design, one row of which describes one rollout.

`LEVEL` is 1 in every row, and `RESAMPLED` is 1 if a temperature was set for the rollout. `RULES`, `DEMOS` and
`CROWDING` are the length of the prompts: the number of rules, that of demos, and the square of both together.
`SAME_ANSWER` is the number of demos that show the answer that the example calls for, and `SHOWN` how much of it the
best of them shows. From `PARTS` on, there is a column for each active part's effect everywhere, then one for each
active part's additional effect on the examples that it is about, then those of `AnswerOrder`."""

CROWDING_SCALE = 10.0
"""Divisor of the squared number of parts in a prompt, which brings the `CROWDING` column to the scale of the others."""


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """Range of the metric: 0 to 1, or the observed range if any score lies outside of that. It is never empty."""

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, scores: Sequence[float] | Vector) -> ScoreRange:
        if not len(scores):
            return cls()
        low, high = float(np.min(scores)), float(np.max(scores))
        return cls() if low >= 0 and high <= 1 else cls(low, max(high, low + 1e-9, math.nextafter(low, math.inf)))

    @property
    def width(self) -> float:
        return self.high - self.low

    def to_unit(self, score: float) -> float:
        """Return the place of a score in the range: 0 at its low end, 1 at its high end."""
        return (float(score) - self.low) / self.width

    def from_unit(self, share: float) -> float:
        """Return the score at a place in the range; the inverse of `to_unit`."""
        return self.low + share * self.width


class LengthEffects(NamedTuple):
    """Effects of the length of a prompt, in log-odds."""

    rule: float
    """Of each rule."""
    demo: float
    """Of each demo."""
    crowding: float
    """Of the squared number of both, divided by `CROWDING_SCALE`."""


@dataclass(frozen=True, slots=True)
class Effects:
    """One possible set of effects given the scores, in log-odds. Columns of matrices are the panel's examples."""

    student: Vector
    """Log-odds of a program without parts, on each example."""
    everywhere: Vector
    """Effect of each part on every example."""
    nearby: Vector
    """Additional effect of each part on an example that it is about."""
    relevance: Matrix
    """Relevance of each part to each example, from 0 to 1: the factor of its `nearby` effect there."""
    same_answer: float
    """Effect of each demo that shows the example's answer."""
    shown: float
    """Effect of having any demo that shows the example's answer."""
    shows: Matrix
    """Share of each example's answer that each part shows, from 0 to 1."""
    in_order: Matrix
    """Effect of each answer in each position; see `AnswerOrder.on_examples`. Without rows if the order does not
    matter."""
    length: LengthEffects

    def of(self, parts: Sequence[int] | slice) -> Matrix:
        """Return the effect of each of these parts on each example."""
        of_parts = self.nearby[parts, None] * self.relevance[parts]
        of_parts += self.same_answer * self.shows[parts]
        of_parts += self.everywhere[parts, None]
        return of_parts
