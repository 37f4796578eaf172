"""A logistic mixed model of scores: effects of the columns of a design, and how easy each example is.

The log-odds of a score are the sum of the effects in its row of the design, a known offset, and its example's ease.
Effects and ease have normal priors, so an effect with few trials stays near zero (partial pooling). The fit is the mode
of the posterior, and the curvature there gives the uncertainty: a Laplace approximation (Breslow and Clayton,
"Approximate inference in generalized linear mixed models", 1993). The ease of examples and the value of what is tried
are on one scale, as in item response theory (Rasch, "Probabilistic models for some intelligence and attainment tests",
1960).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from simba_actors.search.model.linear_algebra import (
    Indices,
    Matrix,
    Singles,
    Vector,
    inverse_root,
    members_by_rank,
    product,
    times,
    weighted_squares,
)

CONVERGED = 0.01
"""Largest change of an effect, in log-odds, at which a fit has converged. The next change would be far smaller."""

STALE = 1.0
"""Change of a score's log-odds after which the curvature is computed again."""

EXACT = 0.25
"""`STALE` for a fit whose evidence is compared with that of another fit."""

MOST_CURVATURES = 10
"""Maximum number of curvatures computed for one fit."""

LEAST_SIZE = 1e-3
"""Fraction of a step that overshoots below which it is not halved again."""

STEPS_OF_EASE = 3
"""Newton steps for the ease of examples alone at the start of a fit."""

LEAST_WEIGHT = 1e-4
"""Minimum weight of a score, for those that are almost certain; keeps Newton's method stable."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Scores, ordered by example. Every array has an entry or a row for each score.

    The design is of single precision: its entries are counts and shares, and it is the largest array of a fit.
    """

    design: Singles
    example: Indices
    """The position of the score's example."""
    score: Vector
    """The score, from 0 to 1."""
    offset: Vector
    """The known part of its log-odds."""

    def without_last(self, columns: int) -> Observations:
        """Return the same scores without the last `columns` columns of the design."""
        return Observations(self.design[:, : self.design.shape[1] - columns], self.example, self.score, self.offset)


@dataclass(frozen=True, slots=True)
class Posterior:
    """Posterior of the effects and of the ease of examples, given the scores."""

    effects: Vector
    """The most likely effect of each column of the design."""
    spread: Matrix
    """A root of the effects' covariance."""
    ease: Vector
    """The most likely ease of each example."""
    log_odds: Vector
    """The most likely log-odds of each observed score."""
    evidence: float
    """Logarithm of the marginal likelihood of the scores: how likely they are under the priors alone."""
    information: Matrix
    """Information about the effects in the scores alone: the curvature of their likelihood, without the priors."""

    def draw(self, draws: np.random.Generator, scale: float = 1.0) -> Vector:
        """Return one draw of the effects, with its distance from the most likely ones multiplied by `scale`."""
        return self.effects + scale * times(self.spread, draws.standard_normal(len(self.effects)))

    def at(self, deviates: Matrix) -> Matrix:
        """Return a draw of the effects for each row of `deviates`, which are draws from a standard normal."""
        return self.effects + product(deviates, self.spread.T)

    def deviations(self) -> Vector:
        """Return the standard deviation of each effect."""
        return cast("Vector", np.sqrt((self.spread**2).sum(axis=1)))


@dataclass(frozen=True, slots=True)
class _Point:
    """Effects and ease, with the log-odds that they give each score; or a step from one such point to another."""

    effects: Vector
    ease: Vector
    log_odds: Vector

    def after(self, step: _Point, size: float) -> _Point:
        return _Point(
            self.effects + size * step.effects, self.ease + size * step.ease, self.log_odds + size * step.log_odds
        )

    def loss(self, score: Vector, precision: Vector, own_precision: float) -> float:
        """Return the negative logarithm of the posterior, up to a constant."""
        likelihood = (score * self.log_odds - np.logaddexp(0.0, self.log_odds)).sum()
        distance = ((precision * self.effects**2).sum() + own_precision * (self.ease**2).sum()) / 2
        return float(distance - likelihood)


def fit(
    observations: Observations,
    prior: Vector,
    examples: int,
    ease: float,
    start: Vector | None = None,
    stale: float = EXACT,
) -> Posterior:
    """Return the posterior under priors with mean 0 and standard deviations `prior` of effects and `ease` of examples.

    Newton's method finds the mode. The ease of examples is eliminated from each step, since each score depends on one
    example only. A curvature serves for several steps, until the log-odds of a score have changed by `stale`, so a fit
    that starts near the mode computes a single one. `start` has the effects of the first columns to start from; those
    of the others start at 0.
    """
    design, score = observations.design, observations.score
    is_tried = np.bincount(observations.example, minlength=examples) > 0
    tried, rows = np.flatnonzero(is_tried), (np.cumsum(is_tried) - 1)[observations.example]
    precision, own_precision = prior**-2.0, ease**-2.0
    effects = np.zeros(len(prior))
    if not len(rows):
        return Posterior(effects, np.diag(prior), np.zeros(examples), np.zeros(0), 0.0, np.diag(effects))
    if start is not None:
        effects[: len(start)] = start
    by_example = _ByExample(rows, len(tried))
    of_columns = observations.offset + times(design, effects)
    eases = _ease(of_columns, score, rows, own_precision)
    point = _Point(effects, eases, of_columns + eases[rows])
    loss = point.loss(score, precision, own_precision)
    own, spread, information = np.full(len(tried), own_precision), np.diag(prior), np.diag(effects)
    for _ in range(MOST_CURVATURES):
        computed_at = point.log_odds
        expected = sigmoid(computed_at)
        weight = np.maximum(expected * (1 - expected), LEAST_WEIGHT)
        own = np.bincount(rows, weight) + own_precision
        shared = by_example.sums(design, weight)
        information = weighted_squares(design, weight) - weighted_squares(shared, 1 / own)
        spread = inverse_root(information + np.diag(precision))
        change, moved = math.inf, 0.0
        while change >= CONVERGED and moved < stale:
            residual = score - sigmoid(point.log_odds)
            own_slope = np.bincount(rows, residual) - own_precision * point.ease
            slope = times(design.T, residual) - precision * point.effects - times(shared.T, own_slope / own)
            step = times(spread, times(spread.T, slope))
            own_step = (own_slope - times(shared, step)) / own
            whole = _Point(step, own_step, times(design, step) + own_step[rows])
            size, after = 1.0, point.after(whole, 1.0)
            while (loss_after := after.loss(score, precision, own_precision)) > loss and size > LEAST_SIZE:
                size /= 2
                after = point.after(whole, size)
            point, loss = after, loss_after
            change = size * float(np.abs(step).max())
            moved = float(np.abs(point.log_odds - computed_at).max())
        if change < CONVERGED and moved < stale:
            break
    narrowing = np.log(prior / np.diag(spread)).sum() + np.log(own / own_precision).sum() / 2
    every_ease = np.zeros(examples)
    every_ease[tried] = point.ease
    return Posterior(point.effects, spread, every_ease, point.log_odds, float(-loss - narrowing), information)


def _ease(of_columns: Vector, score: Vector, example: Indices, precision: float) -> Vector:
    """Return the ease of the examples, given the effects summed in `of_columns`."""
    ease = np.zeros(int(example.max()) + 1)
    for _ in range(STEPS_OF_EASE):
        expected = sigmoid(of_columns + ease[example])
        slope = np.bincount(example, score - expected) - precision * ease
        ease += slope / (np.bincount(example, expected * (1 - expected)) + precision)
    return ease


class _ByExample:
    """Sums over the scores of each example. The scores are ordered by example."""

    def __init__(self, example: Indices, examples: int) -> None:
        counts = np.bincount(example, minlength=examples)
        self._order, self._scores = members_by_rank(counts, np.cumsum(counts) - counts)

    def sums(self, design: Singles, weight: Vector) -> Singles:
        """Return the weighted sum of the design's rows for each example."""
        factor = weight.astype(np.float32)
        sums: Singles = np.zeros((len(self._order), design.shape[1]), dtype=np.float32)
        for scores in self._scores:
            sums[: len(scores)] += design[scores] * factor[scores, None]
        by_example = np.empty_like(sums)
        by_example[self._order] = sums
        return by_example


def mean_chance(log_odds: Any) -> Any:
    """Return the mean along the last axis of the `sigmoid` of an array, in the precision of the array.

    Half as many passes over the array as with `sigmoid`, in which large choices spend most of their time.
    """
    tangents = np.multiply(log_odds, 0.5)
    np.tanh(tangents, out=tangents)
    return tangents.mean(axis=-1) * 0.5 + 0.5


def sigmoid(log_odds: Any) -> Any:
    """Return the probability with these log-odds, computed with tanh, which does not overflow."""
    chance = np.tanh(np.multiply(log_odds, 0.5))
    chance *= 0.5
    chance += 0.5
    return chance
