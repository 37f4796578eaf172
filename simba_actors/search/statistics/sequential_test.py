"""Whether one program is better than another, asked as often as one likes while scores come in.

A fixed-size test that is looked at again and again finds a difference sooner or later where there is none. These
intervals hold at every moment at once: they are those of the mixture sequential probability ratio test, in the form of
R. Johari, P. Koomen, L. Pekelis and D. Walsh, "Always Valid Inference: Continuous Monitoring of A/B Tests", Operations
Research 70(3), 2022 (equation 15), for normal means; scores enter by their means, so a few dozen are needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

EXPECTED_EFFECT = 0.3
"""Standard deviation of the effects that the mixture expects, in standard deviations of the scores: it is most
powerful near there, and valid everywhere."""

LEAST_SCORES = 20
"""Of each side. Below, a mean is no normal variable by far, and there is no verdict."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What is kept of scores: how many, their sum, and the sum of their squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, scores: Sequence[float]) -> Sums:
        return cls(len(scores), math.fsum(scores), math.fsum(score * score for score in scores))

    @property
    def mean(self) -> float:
        """0 where there are none."""
        return self.total / self.count if self.count else 0.0

    @property
    def deviations(self) -> float:
        """The sum of squared deviations from the mean; infinite where floats do not hold it."""
        deviations = self.squares - self.count * self.mean * self.mean
        return max(0.0, deviations) if math.isfinite(deviations) else math.inf


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better the new one is: the observed `difference` of means, and the interval that holds the true one."""

    difference: float
    low: float
    high: float

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
    """Of independent scores. The interval holds at all times at once with probability 1 - `alpha`."""
    difference = new.mean - old.mean
    if min(new.count, old.count) < LEAST_SCORES:
        return Comparison(difference, *UNKNOWN)
    # Pooled, as if both were equally good: that is what has to be refuted.
    variance = (new.deviations + old.deviations) / (new.count + old.count - 2)
    return always_valid(difference, variance, variance * (1 / new.count + 1 / old.count), alpha)


def compare_pairs(differences: Sequence[float], alpha: float) -> Comparison:
    """Of scores on the same examples, by their `differences`, new minus old."""
    sums = Sums.of(differences)
    if sums.count < LEAST_SCORES:
        return Comparison(sums.mean, *UNKNOWN)
    variance = sums.deviations / (sums.count - 1)
    return always_valid(sums.mean, variance, variance / sums.count, alpha)


def always_valid(difference: float, variance: float, variance_of_mean: float, alpha: float) -> Comparison:
    """Of an estimated `difference` of means, with the `variance` of a single score and that of the estimate."""
    if not math.isfinite(variance_of_mean):
        return Comparison(difference, *UNKNOWN)
    if variance_of_mean <= 0:
        return Comparison(difference, difference, difference)
    mixture = EXPECTED_EFFECT**2 * variance
    both = variance_of_mean + mixture
    half = math.sqrt(variance_of_mean * both / mixture * math.log(both / (variance_of_mean * alpha**2)))
    return Comparison(difference, difference - half, difference + half)
