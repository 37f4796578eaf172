"""What each program is worth beyond the sum of its parts: its own effect, in log-odds.

Where a task is a matter of knowledge, programs are close to the sum of their parts. Where demos mainly bias a small LM
towards labels, the same demos in another combination may be worth something else altogether. So the width of the prior
of own effects is estimated from the scores: by how much programs differ from what the parts, learned from all other
programs, predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from simba_actors.search.statistics.linear_algebra import Indices, Matrix, Vector, matmul, matvec
from simba_actors.search.statistics.mixed_model import Observations, Posterior, sigmoid

WIDTHS: Vector = np.geomspace(1.0, 6.0, 12)
"""Factors by which the prior of own effects may be wider than usual. The estimate was 2.7 to 3.7 in a task where demos
matter together, and 1.0 to 1.1 in planted worlds (tests/benchmarks/README.md). Each is 18 % wider than the last."""

LOG_WIDTH = 1.0
"""Standard deviation of the logarithm of that factor under its own prior."""

WITH_MOST_SCORES = 64
"""Number of programs, those that the scores say most about, from which the width is estimated."""

MOST_LEVERAGE = 0.95
"""Largest share of a program's deviation that its own scores are taken to have explained by its parts. The deviation
is divided by the rest, and so grows by a factor of 20 at most. Nearer to 1, one program with rare parts could decide
the width. With a lower limit, such programs count for less than they show."""

LEAST_WEIGHT = 0.01
"""Minimum probability of a width that counts as likely."""


@dataclass(frozen=True)
class OwnEffects:
    """The posterior of own effects under the most likely width of their prior, with an entry for each program.

    The mode is approximated by one Newton step.
    """

    surprise: Vector
    """Sum over each program's scores of how far they are above what the fit of the parts expects."""
    information: Vector
    """Information about each own effect in these scores."""
    prior: Vector
    """The usual standard deviation of each own effect."""
    width: float
    """The most likely factor by which the prior is wider than usual."""
    narrowest: float
    """The smallest likely factor."""

    @cached_property
    def mean(self) -> Vector:
        """The most likely effect."""
        return self.surprise / self._precision(self.width)

    @cached_property
    def deviation(self) -> Vector:
        """The standard deviation around it."""
        return self._precision(self.width) ** -0.5

    @cached_property
    def weight(self) -> Vector:
        """Share of the program's own scores in the estimate, from 0 to 1; the rest is the prior's."""
        return self.information / self._precision(self.width)

    def under(self, width: float, program: int) -> tuple[float, float]:
        """Return the mean and the deviation of one program's own effect if the prior is that much wider."""
        precision = self.information[program] + (width * self.prior[program]) ** -2.0
        return float(self.surprise[program] / precision), float(precision**-0.5)

    def _precision(self, width: float) -> Vector:
        return self.information + (width * self.prior) ** -2.0


def own_effects(
    observed: Observations, program: Indices, posterior: Posterior, prior: Vector, known: Vector | None = None
) -> OwnEffects:
    """Return the own effects given the fit of the parts.

    Args:
        observed: The scores. Columns of the design beyond those of the posterior don't count.
        program: The program of each score.
        posterior: The fit.
        prior: The usual standard deviation of each program's own effect.
        known: Own effects that the fit took into account, as offsets.
    """
    programs, expected = len(prior), sigmoid(posterior.log_odds)
    weight = expected * (1 - expected)
    surprise = np.bincount(program, observed.score - expected, programs).astype(np.float64)
    information = np.bincount(program, weight, programs).astype(np.float64)
    if known is not None:
        surprise = surprise + information * known
    chosen = np.argsort(-information, kind="stable")[:WITH_MOST_SCORES]
    chosen = chosen[information[chosen] > 0]
    by_parts = _variances_by_parts(observed, program, posterior, weight, chosen)
    width, narrowest = _widths(surprise[chosen], information[chosen], by_parts, prior[chosen])
    return OwnEffects(surprise, information, prior, width, narrowest)


def _variances_by_parts(
    observed: Observations, program: Indices, posterior: Posterior, weight: Vector, chosen: Indices
) -> Vector:
    """Return the posterior variance of the mean log-odds of each of the chosen programs, as the sum of its parts."""
    columns = len(posterior.effects)
    means: Matrix = np.zeros((len(chosen), columns))
    for n, number in enumerate(chosen.tolist()):
        own = np.flatnonzero(program == number)
        means[n] = matvec(observed.design[own, :columns].T, weight[own]) / weight[own].sum()
    return cast("Vector", (matmul(means, posterior.covariance_root) ** 2).sum(axis=1))


def _widths(surprise: Vector, information: Vector, by_parts: Vector, prior: Vector) -> tuple[float, float]:
    """Return the most likely factor by which the prior is wider than usual, and the smallest likely one.

    A program's own scores have pulled the effects of its parts towards them. What the fit would say of it without them
    follows from their leverage (leave-one-out prediction: Cook, "Detection of influential observation in linear
    regression", 1977).
    """
    kept = 1 - np.minimum(information * by_parts, MOST_LEVERAGE)
    surprise, by_parts = surprise / kept, by_parts / kept
    variance = information + information**2 * (by_parts + (WIDTHS[:, None] * prior) ** 2)
    likelihood = -0.5 * (np.log(variance) + surprise**2 / variance).sum(axis=1)
    likelihood -= 0.5 * (np.log(WIDTHS) / LOG_WIDTH) ** 2
    weights = np.exp(likelihood - likelihood.max())
    weights /= weights.sum()
    return float(WIDTHS[weights.argmax()]), float(WIDTHS[(weights >= LEAST_WEIGHT).argmax()])
