"""A logistic mixed model: effects of whatever a design matrix holds, and how easy each example is.

The log-odds of a score are a sum of the effects in its row of the design and of its example's ease; all of them have
normal priors, so that what was tried little is believed little (partial pooling). The fit is the mode of the posterior,
with its curvature for the uncertainty: a Laplace approximation (Breslow and Clayton, "Approximate inference in
generalized linear mixed models", 1993). Putting the ease of examples and the worth of what is tried on one scale is
item response theory (Rasch, "Probabilistic models for some intelligence and attainment tests", 1960).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

if TYPE_CHECKING:
    # DSPy 3.4.0 puts a stand-in for numpy into sys.modules, under which numpy.typing can't be imported.
    import numpy.typing as npt

Vector: TypeAlias = "npt.NDArray[np.float64]"
Matrix: TypeAlias = "npt.NDArray[np.float64]"
Indices: TypeAlias = "npt.NDArray[np.int64]"

NEWTON_STEPS = 20
CONVERGED = 1e-3
"""Change of the log-odds below which another step of Newton's method is not worth it."""

LEAST_WEIGHT = 1e-4
"""Keeps Newton's method stable where a score is all but certain."""


SMALL = 32
"""Rows of a matrix that is not worth halving."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Scores from 0 to 1, each with its row of the design and the example that it is of."""

    design: Matrix
    example: Indices
    score: Vector

    def without_last(self, columns: int) -> Observations:
        """The same, as if the last columns of the design had no effects."""
        return Observations(self.design[:, : self.design.shape[1] - columns], self.example, self.score)


@dataclass(frozen=True, slots=True)
class Posterior:
    """`effects` are the most likely ones, `spread` a root of their covariance, `ease` the examples' most likely.

    `evidence` is the logarithm of how likely the scores are under the priors, whatever the effects.
    """

    effects: Vector
    spread: Matrix
    ease: Vector
    evidence: float

    def draw(self, draws: np.random.Generator, scale: float = 1.0) -> Vector:
        """Effects as they may be: one draw, its distance from the most likely ones times `scale`."""
        return self.effects + scale * (self.spread @ draws.standard_normal(len(self.effects)))

    def at(self, deviates: Matrix) -> Matrix:
        """Effects as they may be: a row for each of `deviates`, whose rows are draws from a standard normal."""
        return self.effects + deviates @ self.spread.T

    def deviations(self) -> Vector:
        """The standard deviation of each effect."""
        return cast("Vector", np.sqrt((self.spread**2).sum(axis=1)))


def fit(
    observations: Observations, prior: Vector, examples: int, ease: float, start: Posterior | None = None
) -> Posterior:
    """The posterior under priors with mean 0 and standard deviations `prior` for effects and `ease` for examples.

    Newton's method; the examples' own effects are eliminated from each step, since no two of them meet in a score. The
    first step is made from `start`, where that is known: a posterior of the first of these effects.
    """
    order = np.argsort(observations.example, kind="stable")
    design, rows, score = observations.design[order], observations.example[order], observations.score[order]
    tried, first = np.unique(rows, return_index=True)
    precision, own_precision = prior**-2.0, ease**-2.0
    effects, eases = np.zeros(len(prior)), np.zeros(examples)
    if start is not None:
        effects[: len(start.effects)], eases = start.effects, start.ease
    spread: Matrix = np.diag(prior)
    own = np.full(examples, own_precision)
    for _ in range(NEWTON_STEPS if len(rows) else 0):
        expected = sigmoid(design @ effects + eases[rows])
        weight = np.maximum(expected * (1 - expected), LEAST_WEIGHT)
        own = np.bincount(rows, weight, examples) + own_precision
        shared = np.zeros((examples, len(prior)))
        shared[tried] = np.add.reduceat(design * weight[:, None], first, axis=0)
        slope = design.T @ (score - expected) - precision * effects
        own_slope = np.bincount(rows, score - expected, examples) - own_precision * eases
        curvature = _squared(design, weight) + np.diag(precision) - _squared(shared, 1 / own)
        spread = _inverse(cast("Matrix", np.linalg.cholesky(curvature))).T
        step = spread @ (spread.T @ (slope - shared.T @ (own_slope / own)))
        effects = effects + step
        eases = eases + (own_slope - shared @ step) / own
        if float(np.abs(step).max()) < CONVERGED:
            break
    log_odds = design @ effects + eases[rows]
    likelihood = score @ log_odds - np.logaddexp(0.0, log_odds).sum()
    distance = (precision @ effects**2 + own_precision * (eases @ eases)) / 2
    narrowing = np.log(prior / np.diag(spread)).sum() + np.log(own / own_precision).sum() / 2
    return Posterior(effects, spread, eases, float(likelihood - distance - narrowing))


def _squared(rows: Matrix, weight: Vector) -> Matrix:
    """The sum of the rows' outer squares, each times its weight. numpy computes but half of a symmetric product."""
    rooted = rows * np.sqrt(weight)[:, None]
    return rooted.T @ rooted


def sigmoid(log_odds: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(log_odds, -30, 30)))


def _inverse(lower: Matrix) -> Matrix:
    """Of a lower triangular matrix, by halves.

    That leaves products alone to do. numpy's solvers take any matrix for a full one: beside a busy event loop, one
    solve of 332 rows took 276 ms and held the other threads up for half of that.
    """
    if len(lower) <= SMALL:
        return cast("Matrix", np.linalg.inv(lower))
    half = len(lower) // 2
    inverse = np.zeros_like(lower)
    inverse[:half, :half] = first = _inverse(lower[:half, :half])
    inverse[half:, half:] = last = _inverse(lower[half:, half:])
    inverse[half:, :half] = -last @ lower[half:, :half] @ first
    return inverse
