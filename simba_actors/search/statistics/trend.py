"""Trend of a series: its direction, and an interval for its slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from simba_actors.search.statistics.intervals import ERROR

MOST_POINTS = 100
"""A longer series is first averaged in blocks to at most this many points, which bounds the cost of a trend."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The slope of a series, in its units per step, with its 95 % interval."""

    slope: float
    low: float
    high: float

    @property
    def direction(self) -> Literal["improving", "flat", "falling"]:
        """ "flat" if the interval includes 0: there may be a slope, but the noise hides it."""
        if self.low > 0:
            return "improving"
        return "falling" if self.high < 0 else "flat"

    def __str__(self) -> str:
        return f"{self.direction}, {self.slope:+.3f} a step ({self.low:+.3f} to {self.high:+.3f})"


def trend_of(values: Sequence[float]) -> Trend | None:
    """Return the trend of successive values, or None for fewer than five, which allow no interval.

    The slope is the Theil-Sen estimator, the median of the slopes between all pairs. Its interval inverts Kendall's
    rank test (P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", Journal of the American
    Statistical Association 63, 1968), which assumes no distribution. A single lucky step does not sway either.

    A series of more than `MOST_POINTS` values is averaged in blocks of equal size, without the oldest values that fill
    no block. Means of equal blocks are exchangeable wherever the values are, so the test remains exact.
    """
    size = -(-len(values) // MOST_POINTS)
    count = len(values) // size if size else 0
    outside = _slopes_outside(count)
    if outside is None:
        return None
    points = np.asarray(values[len(values) - count * size :], dtype=float).reshape(count, size).mean(axis=1)
    before, later = np.triu_indices(count, 1)
    slopes = np.sort((points[later] - points[before]) / ((later - before) * size))
    median = (slopes[(len(slopes) - 1) // 2] + slopes[len(slopes) // 2]) / 2
    return Trend(float(median), float(slopes[outside]), float(slopes[-1 - outside]))


@lru_cache(maxsize=MOST_POINTS)
def _slopes_outside(count: int) -> int | None:
    """Return how many of the slopes between pairs of `count` points lie outside the interval at either end.

    Return None if not even the whole range of slopes is an interval. Without a trend, each order of the points is as
    likely as any other, so the number of falling pairs is that of the inversions of a random permutation. Its
    distribution is a product of uniform ones.
    """
    chances = np.ones(1)
    for factor in range(1, count + 1):
        chances = np.convolve(chances, np.full(factor, 1 / factor))
    beyond = int(np.searchsorted(np.cumsum(chances), ERROR / 2, side="right"))
    return beyond - 1 if beyond else None
