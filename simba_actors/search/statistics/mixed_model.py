"""Bayesian logistic regression of scores on the columns of a design, with a random intercept for each example.

The log-odds of score i, on example j, are `offset[i] + design[i] @ effects + ease[j]`. Effects and ease have normal
priors with mean 0, so an effect that few scores bear on stays near zero (partial pooling). The fit is the mode of the
posterior, and the curvature there gives the uncertainty: a Laplace approximation (Breslow and Clayton, "Approximate
inference in generalized linear mixed models", 1993). Putting what is tried and the ease of examples on one scale is
item response theory (Rasch, "Probabilistic models for some intelligence and attainment tests", 1960).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from simba_actors.search.statistics.linear_algebra import (
    Float32Array,
    Indices,
    Matrix,
    Vector,
    inverse_root,
    matvec,
    members_by_rank,
    weighted_gram,
)

CONVERGED = 0.01
"""A fit has converged when the last step changed no effect by more than this, in log-odds. Newton's method converges
quadratically, so the next change would be far smaller."""

STALE = 1.0
"""Largest change of a score's log-odds for which a curvature is used again. Right for a fit that starts near the
mode."""

EXACT = 0.25
"""`STALE` for a fit whose marginal likelihood is compared with that of another fit. This is the default."""

MOST_CURVATURES = 10
"""Maximum number of curvatures computed for one fit."""

LEAST_SIZE = 1e-3
"""A step that makes the posterior less likely is halved down to this fraction."""

STEPS_OF_EASE = 3
"""Newton steps for the ease of examples alone, before the fit of everything."""

LEAST_WEIGHT = 1e-4
"""Minimum weight of a score in the curvature. The weight of one that is almost certain to be right or wrong is near 0,
and Newton's method is unstable without a minimum."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Scores, ordered by example. Every array has an entry or a row for each score.

    The design is in single precision: its entries are counts and shares, and it is the largest array of a fit.
    """

    design: Float32Array
    example: Indices
    """Index of the score's example."""
    score: Vector
    """The score, from 0 to 1."""
    offset: Vector
    """The known part of the score's log-odds."""

    def without_last(self, columns: int) -> Observations:
        """Return the same scores without the last `columns` columns of the design."""
        return Observations(self.design[:, : self.design.shape[1] - columns], self.example, self.score, self.offset)


@dataclass(frozen=True, slots=True)
class Posterior:
    """Posterior of the effects and of the ease of examples, given the scores."""

    effects: Vector
    """The most likely effect of each column of the design, in log-odds."""
    covariance_root: Matrix
    """`covariance_root @ covariance_root.T` is the covariance of the effects."""
    ease: Vector
    """The most likely ease of each example, in log-odds; 0 for examples without a score."""
    log_odds: Vector
    """The most likely log-odds of each observed score."""
    log_marginal_likelihood: float
    """Logarithm of the probability of the scores under the priors (the model evidence), by Laplace's approximation."""
    information: Matrix
    """Information about the effects in the scores alone: the curvature of their likelihood, without the priors."""

    def draw(self, draws: np.random.Generator, scale: float = 1.0) -> Vector:
        """Return one draw of the effects, with its distance from the most likely ones multiplied by `scale`."""
        return self.effects + scale * matvec(self.covariance_root, draws.standard_normal(len(self.effects)))

    def deviations(self) -> Vector:
        """Return the standard deviation of each effect."""
        return cast("Vector", np.sqrt((self.covariance_root**2).sum(axis=1)))


def fit(
    observations: Observations,
    prior: Vector,
    examples: int,
    ease: float,
    start: Vector | None = None,
    stale: float = EXACT,
) -> Posterior:
    """Return the posterior of the effects and of the ease of examples.

    The mode is found by Newton's method. A curvature serves for several steps, so a fit that starts near the mode
    computes a single one.

    Args:
        observations: The scores. There may be none: then the posterior is the prior.
        prior: The standard deviation of each effect before any score, in log-odds.
        examples: The number of examples, with and without scores.
        ease: The standard deviation of the ease of examples before any score, in log-odds.
        start: Effects of the first columns to start from. The others start at 0.
        stale: How far the log-odds of any score may move before the curvature is computed again.
    """
    is_tried = np.bincount(observations.example, minlength=examples) > 0
    effects = np.zeros(len(prior))
    if not len(observations.score):
        return Posterior(effects, np.diag(prior), np.zeros(examples), np.zeros(0), 0.0, np.diag(effects))
    if start is not None:
        effects[: len(start)] = start
    tried_example = (np.cumsum(is_tried) - 1)[observations.example]
    descent = _Descent(observations, tried_example, int(is_tried.sum()), prior**-2.0, ease**-2.0)
    point = descent.start(effects)
    loss = descent.loss(point)
    curvatures, converged = 0, False
    while True:
        computed_at, curvature = point.log_odds, descent.curvature(point)
        curvatures += 1
        change, moved = math.inf, 0.0
        while change >= CONVERGED and moved < stale:
            step = descent.newton_step(point, curvature)
            point, loss, size = descent.line_search(point, loss, step)
            change = size * float(np.abs(step.effects).max())
            moved = float(np.abs(point.log_odds - computed_at).max())
        converged = change < CONVERGED and moved < stale
        if converged or curvatures == MOST_CURVATURES:
            break
    root = curvature.covariance_root
    narrowing = np.log(prior / np.diag(root)).sum() + np.log(curvature.of_ease / ease**-2.0).sum() / 2
    every_ease = np.zeros(examples)
    every_ease[is_tried] = point.ease
    return Posterior(point.effects, root, every_ease, point.log_odds, float(-loss - narrowing), curvature.information)


@dataclass(frozen=True, slots=True)
class _Point:
    """Effects and ease, with the log-odds that they give each score; or a step from one such point to another."""

    effects: Vector
    ease: Vector
    """One entry for each example that has a score, as everywhere in a `_Descent`."""
    log_odds: Vector

    def after(self, step: _Point, size: float) -> _Point:
        """Return the point that this fraction of a step leads to."""
        return _Point(
            self.effects + size * step.effects, self.ease + size * step.ease, self.log_odds + size * step.log_odds
        )


@dataclass(frozen=True, slots=True)
class _Curvature:
    """Second derivatives of the negative log-posterior at a point.

    Each score depends on the ease of one example only, so the ease is eliminated exactly (the Schur complement).
    """

    of_ease: Vector
    """With respect to the ease of each example."""
    mixed: Float32Array
    """With respect to the ease of each example (row) and each effect (column)."""
    information: Matrix
    """With respect to the effects, once the ease has been eliminated and without the priors of the effects."""
    covariance_root: Matrix


class _Descent:
    """The steps of Newton's method, which minimizes the negative logarithm of the posterior (the loss)."""

    def __init__(
        self, observations: Observations, example: Indices, examples: int, precision: Vector, ease_precision: float
    ) -> None:
        self._design, self._score, self._offset = observations.design, observations.score, observations.offset
        self._example = example
        self._by_example = _ByExample(example, examples)
        self._precision, self._ease_precision = precision, ease_precision

    def start(self, effects: Vector) -> _Point:
        """Return the point with these effects and the ease that suits them."""
        of_columns = self._offset + matvec(self._design, effects)
        ease = np.zeros(int(self._example.max()) + 1)
        for _ in range(STEPS_OF_EASE):
            expected = sigmoid(of_columns + ease[self._example])
            slope = np.bincount(self._example, self._score - expected) - self._ease_precision * ease
            ease += slope / (np.bincount(self._example, expected * (1 - expected)) + self._ease_precision)
        return _Point(effects, ease, of_columns + ease[self._example])

    def loss(self, point: _Point) -> float:
        """Return the negative logarithm of the posterior, up to a constant."""
        likelihood = (self._score * point.log_odds - np.logaddexp(0.0, point.log_odds)).sum()
        distance = ((self._precision * point.effects**2).sum() + self._ease_precision * (point.ease**2).sum()) / 2
        return float(distance - likelihood)

    def curvature(self, point: _Point) -> _Curvature:
        """Return the curvature at the point."""
        expected = sigmoid(point.log_odds)
        weight = np.maximum(expected * (1 - expected), LEAST_WEIGHT)
        of_ease = cast("Vector", np.bincount(self._example, weight) + self._ease_precision)
        mixed = self._by_example.sums(self._design, weight)
        information = weighted_gram(self._design, weight) - weighted_gram(mixed, 1 / of_ease)
        return _Curvature(of_ease, mixed, information, inverse_root(information + np.diag(self._precision)))

    def newton_step(self, point: _Point, curvature: _Curvature) -> _Point:
        """Return the step from the point to where the loss would be least if the curvature were the same everywhere."""
        residual = self._score - sigmoid(point.log_odds)
        ease_slope = np.bincount(self._example, residual) - self._ease_precision * point.ease
        slope = matvec(self._design.T, residual) - self._precision * point.effects
        slope = slope - matvec(curvature.mixed.T, ease_slope / curvature.of_ease)
        effects = matvec(curvature.covariance_root, matvec(curvature.covariance_root.T, slope))
        ease = (ease_slope - matvec(curvature.mixed, effects)) / curvature.of_ease
        return _Point(effects, ease, matvec(self._design, effects) + ease[self._example])

    def line_search(self, point: _Point, loss: float, step: _Point) -> tuple[_Point, float, float]:
        """Return the point after the step, its loss, and the fraction of the step at which the loss does not grow."""
        size, after = 1.0, point.after(step, 1.0)
        while (loss_after := self.loss(after)) > loss and size > LEAST_SIZE:
            size /= 2
            after = point.after(step, size)
        return after, loss_after, size


class _ByExample:
    """Sums over the scores of each example. The scores are ordered by example."""

    def __init__(self, example: Indices, examples: int) -> None:
        counts = np.bincount(example, minlength=examples)
        self._order, self._scores = members_by_rank(counts, np.cumsum(counts) - counts)

    def sums(self, design: Float32Array, weight: Vector) -> Float32Array:
        """Return the weighted sum of the design's rows for each example."""
        factor = weight.astype(np.float32)
        sums: Float32Array = np.zeros((len(self._order), design.shape[1]), dtype=np.float32)
        for scores in self._scores:
            sums[: len(scores)] += design[scores] * factor[scores, None]
        by_example = np.empty_like(sums)
        by_example[self._order] = sums
        return by_example


def mean_sigmoid(log_odds: Any) -> Any:
    """Return the mean of `sigmoid(log_odds)` along the last axis, in the precision of the array.

    It passes over the array half as often as `sigmoid(log_odds).mean(axis=-1)`: with large arrays, passes are what
    takes time.
    """
    tangents = np.multiply(log_odds, 0.5)
    np.tanh(tangents, out=tangents)
    return tangents.mean(axis=-1) * 0.5 + 0.5


def sigmoid(log_odds: Any) -> Any:
    """Return `1 / (1 + exp(-log_odds))`, computed with tanh, which does not overflow."""
    chance = np.tanh(np.multiply(log_odds, 0.5))
    chance *= 0.5
    chance += 0.5
    return chance
