"""How much parts matter in this task at all, estimated from all scores.

The prior of the model fits tasks in which parts do something. In a task where none does, or all do a little harm, the
best of many parts looks good by luck, and a prior that is too wide believes it. So the posterior is averaged over
several scales of the parts' effects, each weighted by how likely the scores are under it (empirical Bayes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from simba_actors.search.model.effects import DEMOS, PARTS, RULES
from simba_actors.search.model.linear_algebra import Matrix, Vector, inverse_root, times
from simba_actors.search.model.part_model import PartModel

SCALES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5)
"""Factors of the standard deviations of parts' effects under the model's prior. Each is as likely beforehand."""

LEAST_WEIGHT = 1 / 16
"""Scales that are less likely than this are left out."""

FAR = math.log(len(SCALES) / LEAST_WEIGHT)
"""Once a scale is so much less likely than the likeliest, those beyond it are not tried: the scores are ever less
likely the farther the scale is from the likeliest."""


@dataclass(frozen=True, slots=True)
class Belief:
    """The posterior of the effects under one scale of those of parts."""

    scale: float
    weight: float
    """How likely the scale is."""
    prior: Vector
    """Standard deviation of each effect before any score."""
    mean: Vector
    """Mean of each effect."""
    root: Matrix
    """A root of the effects' covariance."""

    def root_later(self, information: Matrix) -> Matrix:
        """Return a root of the covariance once the scores say so much about the effects."""
        return inverse_root(information + np.diag(self.prior**-2.0))


def beliefs_of(model: PartModel, of_any_part: float | None = None) -> list[Belief]:
    """Return the beliefs under the scales that are likely, by a normal approximation around the model's own.

    What any rule and any demo does has the model's prior, or with `of_any_part` the scale's, times that factor.
    """
    posterior = model.posterior
    slope = times(posterior.information, posterior.effects) + posterior.effects * model.prior**-2.0
    own = SCALES.index(1.0)
    found = [_belief(model, 1.0, of_any_part, slope)]
    for scales in (SCALES[:own][::-1], SCALES[own + 1 :]) if len(model.active) else ():
        for scale in scales:
            found.append(_belief(model, scale, of_any_part, slope))
            if found[-1][0] < max(evidence for evidence, _ in found) - FAR:
                break
    found.sort(key=lambda each: each[1].scale)
    most = max(evidence for evidence, _ in found)
    weights = [math.exp(evidence - most) for evidence, _ in found]
    kept = [weight if weight >= LEAST_WEIGHT * sum(weights) else 0.0 for weight in weights]
    return [
        replace(belief, weight=weight / sum(kept)) for weight, (_, belief) in zip(kept, found, strict=True) if weight
    ]


def _belief(model: PartModel, scale: float, of_any_part: float | None, slope: Vector) -> tuple[float, Belief]:
    """Return the belief under a scale, and the logarithm of how likely the scores are under it, up to a constant."""
    posterior, prior = model.posterior, model.prior.copy()
    prior[PARTS : PARTS + 2 * len(model.active)] *= scale
    if of_any_part is not None:
        prior[RULES : DEMOS + 1] *= scale * of_any_part
    root = inverse_root(posterior.information + np.diag(prior**-2.0))
    projected = times(root.T, slope)
    evidence = float(np.log(np.diag(root)).sum() - np.log(prior).sum() + (projected**2).sum() / 2)
    return evidence, Belief(scale, 0.0, prior, times(root, projected), root)


def chance_to_beat(model: PartModel, beliefs: Sequence[Belief], program: int, other: int) -> float:
    """Return the probability that `program` is better than `other`; 0 for the same program."""
    if program == other:
        return 0.0
    gain, slope, own = model.contrast(program, other)
    total = 0.0
    for belief in beliefs:
        moved = gain + float((slope * (belief.mean - model.posterior.effects)).sum())
        deviation = math.hypot(own, *times(belief.root.T, slope))
        total += belief.weight * NormalDist().cdf(moved / deviation)
    return total
