"""A test of whether one program is better than another, which may be repeated as scores come in.

A fixed-size test that is repeated again and again sooner or later finds a difference where there is none. The intervals
here hold at all times at once. They are those of the mixture sequential probability ratio test for normal means
(R. Johari, P. Koomen, L. Pekelis and D. Walsh, "Always valid inference: continuous monitoring of A/B tests", Operations
Research 70(3), 2022, equation 15). Means of scores are nearly normal once there are a few dozen.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

EXPECTED_EFFECT = 0.3
"""Standard deviation of the expected effects, in standard deviations of the scores. The test is valid for all effects,
and most powerful for those of this size."""

LEAST_SCORES = 20
"""Scores needed of each program. With fewer, a mean is far from normal and the interval is unbounded."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sufficient statistics of a set of scores."""

    count: int = 0
    total: float = 0.0
    """The sum of the scores."""
    squares: float = 0.0
    """The sum of their squares."""

    @classmethod
    def of(cls, scores: Sequence[float]) -> Sums:
        return cls(len(scores), math.fsum(scores), math.fsum(score * score for score in scores))

    @property
    def mean(self) -> float:
        """Mean score; 0 if there are none."""
        return self.total / self.count if self.count else 0.0

    @property
    def deviations(self) -> float:
        """Sum of squared deviations from the mean; infinite if it overflows."""
        deviations = self.squares - self.count * self.mean * self.mean
        return max(0.0, deviations) if math.isfinite(deviations) else math.inf


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of a new program with an old one."""

    difference: float
    """Observed difference of means, new minus old."""
    low: float
    """Low end of the interval of the true difference."""
    high: float
    """High end of the interval of the true difference."""

    @property
    def is_better(self) -> bool:
        return self.low > 0

    @property
    def is_worse(self) -> bool:
        return self.high < 0

    def __str__(self) -> str:
        return f"{self.difference:+.3f} (between {self.low:+.3f} and {self.high:+.3f})"


UNKNOWN = (-math.inf, math.inf)


def compare(new: Sums, old: Sums, alpha: float) -> Comparison:
    """Compare independent scores. The interval holds at all times at once with probability 1 - `alpha`."""
    difference = new.mean - old.mean
    if min(new.count, old.count) < LEAST_SCORES:
        return Comparison(difference, *UNKNOWN)
    # Pooled, since the hypothesis to refute is that both are equally good.
    variance = (new.deviations + old.deviations) / (new.count + old.count - 2)
    return always_valid(difference, variance, variance * (1 / new.count + 1 / old.count), alpha)


def compare_pairs(differences: Sequence[float], alpha: float) -> Comparison:
    """Compare scores on the same examples, given their `differences`, new minus old."""
    sums = Sums.of(differences)
    if sums.count < LEAST_SCORES:
        return Comparison(sums.mean, *UNKNOWN)
    variance = sums.deviations / (sums.count - 1)
    return always_valid(sums.mean, variance, variance / sums.count, alpha)


def always_valid(difference: float, variance: float, variance_of_mean: float, alpha: float) -> Comparison:
    """Return the interval of an estimated `difference`, given the variance of a single score and of the estimate."""
    if not math.isfinite(variance_of_mean) or variance <= 0 < variance_of_mean:  # Too large or too small for floats.
        return Comparison(difference, *UNKNOWN)
    if variance_of_mean <= 0:
        # Squares of tiny scores are 0, so that their variance says nothing.
        is_tiny = difference != 0 and difference * difference < sys.float_info.min
        return Comparison(difference, *(UNKNOWN if is_tiny else (difference, difference)))
    # In this form, variances near the smallest float can't make a divisor 0.
    mixture = EXPECTED_EFFECT**2 * (variance / variance_of_mean)  # Its variance, in units of that of the mean.
    half = math.sqrt(variance_of_mean * (1 + 1 / mixture) * (math.log1p(mixture) - 2 * math.log(alpha)))
    return Comparison(difference, difference - half, difference + half)
