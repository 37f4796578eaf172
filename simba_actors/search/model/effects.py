"""The effects in the model of parts, and the range of the scores that they explain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simba_actors.search.statistics.linear_algebra import Matrix, Vector

LEVEL, RESAMPLED, RULES, DEMOS, CROWDING, SAME_ANSWER, SHOWN, PARTS = range(8)
"""Columns of the design: the level of all programs, whether a temperature was set for the rollout, the length of the
prompt (three columns), how many demos show the answer that the example calls for, and whether any demo does. From
`PARTS` on, there is a column for each active part's effect everywhere, then one for each active part's effect on the
examples that it is about, then those of `AnswerOrder`."""

CROWD = 10.0
"""Divisor of the squared number of parts in a prompt, which brings the `CROWDING` column to the scale of the others."""


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """Range of the metric: 0 to 1, or the observed range if any score lies outside of that."""

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
        return (float(score) - self.low) / self.width

    def from_unit(self, share: float) -> float:
        return self.low + share * self.width


@dataclass(frozen=True, slots=True)
class Effects:
    """One possible set of effects given the evidence, in log-odds. Columns of matrices are the panel's examples."""

    bare: Vector
    """Log-odds of the student on each example."""
    everywhere: Vector
    """Effect of each part on every example."""
    nearby: Vector
    """Additional effect of each part on an example that it is about."""
    near: Matrix
    """Relevance of each part to each example, from 0 to 1."""
    same_answer: float
    """Effect of a demo on an example with the same answer."""
    shown: float
    """Effect of having any demo that shows the example's answer."""
    answers: Matrix
    """Share of each example's answer that each part shows, from 0 to 1."""
    in_order: Matrix
    """Effect of each answer in each position; see `AnswerOrder.on_rows`. Without rows if the order does not matter."""
    length: tuple[float, float, float]
    """Effects of a rule, of a demo, and of crowding."""

    def of(self, parts: Sequence[int] | slice) -> Matrix:
        """Return the effect of each of these parts on each example."""
        of_parts = self.nearby[parts, None] * self.near[parts]
        of_parts += self.same_answer * self.answers[parts]
        of_parts += self.everywhere[parts, None]
        return of_parts

    def of_length(self, rules: int, demos: int) -> float:
        """Return the effect of the number of rules and demos in one predictor's prompt."""
        rule, demo, crowding = self.length
        return rule * rules + demo * demos + crowding * (rules + demos) ** 2 / CROWD
