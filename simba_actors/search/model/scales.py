"""How much parts matter in a task at all, estimated from all scores.

The model's prior fits tasks in which parts have effects. Where no part has one, or all do a little harm, the best of
many parts looks good by luck, and under a prior that is too wide it would be taken for good. So the posterior is
averaged over several scales of the parts' effects, each weighted by how likely the scores are under it (empirical
Bayes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from simba_actors.search.model.effects import DEMOS, PARTS, RULES
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.statistics.linear_algebra import Matrix, Vector, inverse_root, matvec

SCALES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5)
"""Factors by which the prior's standard deviations of parts' effects are multiplied. All are equally likely a
priori."""

LEAST_WEIGHT = 1 / 16
"""Minimum posterior probability of a scale; less likely ones are left out."""

MOST_LOST = -math.log(LEAST_WEIGHT)
"""Largest difference in log-likelihood from the likeliest scale. Scales beyond one that loses more are not tried, since
the likelihood falls with the distance from the likeliest scale."""


@dataclass(frozen=True, slots=True)
class Belief:
    """Posterior of the effects in log-odds, given one scale of the effects of parts."""

    scale: float
    weight: float
    """Posterior probability of the scale."""
    prior: Vector
    """Standard deviation of each effect before any score."""
    mean: Vector
    """Mean of each effect."""
    covariance_root: Matrix
    """`covariance_root @ covariance_root.T` is the covariance of the effects."""

    def root_later(self, information: Matrix) -> Matrix:
        """Return a root of the covariance that the effects will have once scores hold this much `information`."""
        return inverse_root(information + np.diag(self.prior**-2.0))


def beliefs_of(model: PartModel, of_any_part: float | None = None) -> list[Belief]:
    """Return a belief for each likely scale, by a normal approximation around the model's own posterior.

    The prior of what any rule or any demo does is not scaled by default. With `of_any_part`, its standard deviation is
    multiplied by the scale and by that factor.
    """
    posterior = model.posterior
    slope = matvec(posterior.information, posterior.effects) + posterior.effects * model.fit.prior**-2.0
    prior_of_model = SCALES.index(1.0)
    found = [_belief(model, 1.0, of_any_part, slope)]
    for scales in (SCALES[:prior_of_model][::-1], SCALES[prior_of_model + 1 :]) if len(model.active) else ():
        for scale in scales:
            found.append(_belief(model, scale, of_any_part, slope))
            if found[-1][0] < max(log_likelihood for log_likelihood, _ in found) - MOST_LOST:
                break
    found.sort(key=lambda each: each[1].scale)
    most = max(log_likelihood for log_likelihood, _ in found)
    weights = [math.exp(log_likelihood - most) for log_likelihood, _ in found]
    kept = [weight if weight >= LEAST_WEIGHT * sum(weights) else 0.0 for weight in weights]
    return [
        replace(belief, weight=weight / sum(kept)) for weight, (_, belief) in zip(kept, found, strict=True) if weight
    ]


def _belief(model: PartModel, scale: float, of_any_part: float | None, slope: Vector) -> tuple[float, Belief]:
    """Return the log-likelihood of the scores under a scale, up to a constant, and the belief, still without weight."""
    posterior, prior = model.posterior, model.fit.prior.copy()
    prior[PARTS : PARTS + 2 * len(model.active)] *= scale
    if of_any_part is not None:
        prior[RULES : DEMOS + 1] *= scale * of_any_part
    root = inverse_root(posterior.information + np.diag(prior**-2.0))
    projected = matvec(root.T, slope)
    log_likelihood = float(np.log(np.diag(root)).sum() - np.log(prior).sum() + (projected**2).sum() / 2)
    return log_likelihood, Belief(scale, 0.0, prior, matvec(root, projected), root)


def chance_to_beat(model: PartModel, beliefs: Sequence[Belief], program: int, other: int) -> float:
    """Return the probability that `program` is better than `other`; 0 for the same program.

    Own effects have the narrowest likely prior: a program that only seems better if its own rollouts count for much is
    not better beyond doubt.
    """
    if program == other:
        return 0.0
    beyond, own = model.own_contrast(program, other)
    return sum(
        belief.weight * NormalDist().cdf((mean + beyond) / math.hypot(own, deviation))
        for belief, (mean, deviation) in zip(beliefs, _differences(model, beliefs, program, other), strict=True)
    )


def chance_to_be_sure(
    model: PartModel, beliefs: Sequence[Belief], program: int, other: int, sure: float, rollouts: int
) -> float:
    """Return the probability that `rollouts` more of each make it `sure` that `program` is better than `other`.

    It is sure if the chance that it is better is as high as that; 0 for the same program. As in the outlook, what
    programs are worth beyond their parts is left out.
    """
    if program == other:
        return 0.0
    quantile, noise = NormalDist().inv_cdf(sure), _noise(model, program, rollouts) + _noise(model, other, rollouts)
    total = 0.0
    for belief, (mean, deviation) in zip(beliefs, _differences(model, beliefs, program, other), strict=True):
        later = deviation * math.sqrt(noise / (deviation**2 + noise))
        learned = math.sqrt(max(deviation**2 - later**2, 1e-18))
        total += belief.weight * NormalDist().cdf((mean - quantile * later) / learned)
    return total


def _noise(model: PartModel, program: int, rollouts: int) -> float:
    """Return the variance of the mean score of `rollouts`, each of which is 0 or 1."""
    quality = model.qualities[program]
    return max(quality * (1 - quality), 1e-6) / max(rollouts, 1)


def _differences(model: PartModel, beliefs: Sequence[Belief], program: int, other: int) -> list[tuple[float, float]]:
    """Return the mean and the standard deviation of how much better `program` is than `other` under each belief.

    The deviation is that of the parts alone.
    """
    gain, slope, _ = model.contrast(program, other)
    return [
        (
            gain + float((slope * (belief.mean - model.posterior.effects)).sum()),
            math.hypot(*matvec(belief.covariance_root.T, slope)),
        )
        for belief in beliefs
    ]
