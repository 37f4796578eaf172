"""Confidence intervals."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

ERROR = 0.05
"""Chance that a 95 % interval misses the true value."""


@lru_cache(maxsize=128)
def z_value(error: float) -> float:
    """Return how many standard deviations from the mean the interval ends that a normal value misses with `error`."""
    return NormalDist().inv_cdf(1 - error / 2)


def wilson(share: float, count: int, error: float = ERROR) -> tuple[float, float]:
    """Return the interval of the true share, given that `share` of `count` were observed.

    It also holds for the mean of any scores from 0 to 1, whose variance is never above that of a share
    (E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22, 1927).
    """
    z = z_value(error)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(count: int, total: float, squares: float, variance_of_all: float = 0.0) -> tuple[float, float]:
    """Return the 95 % interval of a mean, given the number of scores, their sum and the sum of their squares.

    For scores from 0 to 1 it is Wilson's, which is never a single point. For others it is the normal approximation. If
    these are all equal, they have the variance of scores beyond them, `variance_of_all`.
    """
    mean = total / count
    if 0 <= mean <= 1 and squares <= total + 1e-9:  # No score from 0 to 1 is below its square.
        return wilson(mean, count)
    variance = max(0.0, squares - count * mean * mean) / max(1, count - 1)
    if variance <= 1e-12 * mean * mean:  # Equal but for rounding.
        variance = variance_of_all
    half = z_value(ERROR) * math.sqrt(variance / count)
    return mean - half, mean + half
