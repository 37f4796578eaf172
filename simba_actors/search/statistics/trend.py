"""Whether a series rises or falls, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Literal

import numpy as np

ERROR = 0.05
"""The chance that the interval of a slope misses the true one."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The slope of a series, in its units a step, with its 95 % interval.

    "flat" says that the interval holds 0: there may be a slope, but the noise hides it.
    """

    slope: float
    low: float
    high: float

    @property
    def direction(self) -> Literal["improving", "flat", "falling"]:
        if self.low > 0:
            return "improving"
        return "falling" if self.high < 0 else "flat"

    def __str__(self) -> str:
        return f"{self.direction}, {self.slope:+.3f} a step ({self.low:+.3f} to {self.high:+.3f})"


def trend_of(values: Sequence[float]) -> Trend | None:
    """The trend of values that follow one another; None below five of them, where no interval can be told.

    The Theil-Sen estimator, the median of the slopes between all pairs, with the interval that inverts Kendall's rank
    test (P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", Journal of the American
    Statistical Association 63, 1968). It takes no distribution for granted, and a lucky step does not sway it.
    """
    slopes = sorted((later - before) / (n - m) for (m, before), (n, later) in combinations(enumerate(values), 2))
    outside = _slopes_outside(len(values))
    if outside is None:
        return None
    return Trend(median(slopes), slopes[outside], slopes[-1 - outside])


def _slopes_outside(count: int) -> int | None:
    """How many of the slopes between pairs of `count` values may be left out at either end; None if not even 0.

    Were there no trend, each order of the values would be as likely as any other: the number of falling pairs has the
    distribution of the inversions of a random permutation, whose counts are a product of polynomials.
    """
    chances = np.ones(1)
    for factor in range(1, count + 1):
        chances = np.convolve(chances, np.full(factor, 1 / factor))
    beyond = int(np.searchsorted(np.cumsum(chances), ERROR / 2, side="right"))
    return beyond - 1 if beyond else None
