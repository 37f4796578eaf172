"""What the rest of a run is expected to add to its best program.

The outlook is the expected value of the scores that are still to come. In each of several possible futures the
remaining rollouts move the estimates of the known parts, and new parts come in. The best combination by the estimates
of that future is compared with the best program of today (the knowledge gradient of a whole batch: P. Frazier, W.
Powell and S. Dayanik, "The knowledge-gradient policy for correlated normal beliefs", INFORMS Journal on Computing
21(4), 2009).

How much parts do in a task at all is estimated from all of them together (see `search.model.scales`). Where no part
does anything, that becomes clear long before each part is known well, and the outlook is small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from simba_actors.search.adaptive.combination import best_combinations
from simba_actors.search.adaptive.finals import SURE
from simba_actors.search.model import priors
from simba_actors.search.model.effects import PARTS, Effects
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.scales import Belief, beliefs_of, chance_to_beat
from simba_actors.search.quality import Outlook
from simba_actors.search.rollout import STUDENT
from simba_actors.search.settings import Caps
from simba_actors.search.statistics.linear_algebra import Indices, Matrix, Vector, matvec
from simba_actors.search.statistics.mixed_model import mean_sigmoid, sigmoid

FUTURES = 6
"""Number of futures that are drawn, each scale by its weight."""

MOST_NEW_PARTS = 240
"""Maximum number of new parts in a future. More of them hardly make its best combination better."""

OF_ANY_PART = 1 / 3
"""Factor for the prior of what any rule or any demo does; see `beliefs_of`. As a mean of many effects it is smaller
than each of them. Where no part does anything and only very long prompts do harm, a wider prior would make programs of
middling length seem better than the student."""

QUANTILE = NormalDist().inv_cdf(SURE)
"""Number of standard deviations by which a program must seem better than the student to win."""


def outlook_of(
    model: PartModel, caps: Caps, spent: int, left: int, finals: int, new_parts: int, draws: np.random.Generator
) -> Outlook | None:
    """Return what `left` more rollouts and `new_parts` more parts are expected to add.

    `finals` is the number of final rollouts that a finalist gets. Return None while nothing is known: `spent` is the
    number of rollouts so far.
    """
    if not spent:
        return None
    best = max(sorted(model.qualities), key=model.qualities.__getitem__)
    gain = 1.0 - model.qualities[best]
    if left <= 0:
        gain = 0.0
    elif len(model.active):
        futures = _Futures(model, caps, best, left / spent, finals, min(new_parts, MOST_NEW_PARTS), draws)
        gain = min(gain, futures.mean_gain())
    return Outlook(gain * model.range.width, gain, spent, max(0, left))


@dataclass(frozen=True, slots=True)
class _Future:
    """One future of a run."""

    belief: Belief
    """The belief that it is drawn from."""
    known: float
    """Expected score of today's best program in it; 0 if it is compared with the student instead."""
    effects: Effects
    """Effects of the parts, some of which are new."""


class _Futures:
    """Futures of a run in which it makes `more` times as many rollouts as so far, and `new_parts` new parts.

    As long as today's `best` program is not better than the student with a chance of `SURE`, the student would win.
    Then a future is compared with the student, and counts only if its best combination is sure to win.
    """

    def __init__(
        self,
        model: PartModel,
        caps: Caps,
        best: int,
        more: float,
        finals: int,
        new_parts: int,
        draws: np.random.Generator,
    ) -> None:
        self._model, self._caps, self._best, self._more = model, caps, best, more
        self._finals, self._new_parts, self._draws = max(1, finals), new_parts, draws
        self._learned_of: dict[float, Vector] = {}
        """The results of `_learned`, by the scale of the belief."""
        self._roots_later: dict[float, Matrix] = {}
        """The results of `_root_later`, by the scale of the belief."""
        self._beliefs = beliefs_of(model, OF_ANY_PART)
        self._sure_already = chance_to_beat(model, self._beliefs, best, STUDENT) >= SURE
        active = len(model.active)
        self._of_parts = slice(PARTS, PARTS + 2 * active)
        known = np.maximum(np.diag(model.posterior.information)[self._of_parts], 0.0).reshape(2, active)
        self._usual_information: Vector = known.mean(axis=1)
        self._relevance: Vector = model.composition.mean_relevance[model.active]

    def mean_gain(self) -> float:
        """Return how much better the best combination is than today's best program, averaged over all futures."""
        model = self._model
        futures = [self._draw(belief) for belief in self._drawn_beliefs()]
        combinations = best_combinations(model, [each.effects for each in futures], model.active.tolist(), self._caps)
        return sum(map(self._gain, futures, combinations)) / FUTURES

    def _drawn_beliefs(self) -> list[Belief]:
        """Return the belief that each future is drawn from, in the order of their scales."""
        weights: Vector = np.array([belief.weight for belief in self._beliefs])
        quantiles: Vector = (np.arange(FUTURES) + self._draws.random()) / FUTURES
        drawn: Indices = np.searchsorted(weights.cumsum()[:-1], quantiles, side="right")
        return [self._beliefs[n] for n in drawn.tolist()]

    def _learned(self, belief: Belief) -> Vector:
        """Return how far more rollouts will move each effect of parts, as a share of its standard deviation."""
        if belief.scale not in self._learned_of:
            before = (belief.covariance_root[self._of_parts] ** 2).sum(axis=1)
            own = np.maximum(1 / before - belief.prior[self._of_parts] ** -2.0, 0.0)
            coming = self._more * np.maximum(own, np.repeat(self._usual_information / 2, len(self._model.active)))
            self._learned_of[belief.scale] = np.sqrt(before * coming / (1 + before * coming))
        return self._learned_of[belief.scale]

    def _draw(self, belief: Belief) -> _Future:
        """Draw a future."""
        values, parts = belief.mean.copy(), self._of_parts
        deviates = matvec(belief.covariance_root[parts], self._draws.standard_normal(len(belief.mean)))
        values[parts] += self._learned(belief) * deviates
        known = self._score_of_best(values) if self._sure_already else 0.0
        self._bring_in_new_parts(values, belief.scale)
        return _Future(belief, known, self._model.effects_of(values))

    def _score_of_best(self, values: Vector) -> float:
        """Return the expected score of today's best program if the effects of the design's columns are `values`."""
        log_odds = self._model.log_odds(self._best, self._model.effects_of(values))
        return float(mean_sigmoid(log_odds + self._model.own_effect(self._best)[0]))

    def _gain(self, future: _Future, chosen: Sequence[int]) -> float:
        """Return what the best combination of a future gains there."""
        chances = sigmoid(self._model.log_odds_of(chosen, future.effects))
        later = float(chances.mean())
        if self._sure_already:
            return max(0.0, later - future.known)
        gain = later - float(mean_sigmoid(future.effects.student))
        deviation = self._deviation_later(self._root_later(future.belief), chosen, chances)
        return gain if gain > QUANTILE * deviation else 0.0

    def _root_later(self, belief: Belief) -> Matrix:
        """Return a root of the covariance that the effects will have under a belief at the end of the run."""
        if belief.scale not in self._roots_later:
            later = self._model.posterior.information * (1 + self._more)
            self._roots_later[belief.scale] = belief.root_later(later)
        return self._roots_later[belief.scale]

    def _deviation_later(self, root_later: Matrix, chosen: Sequence[int], chances: Vector) -> float:
        """Return the standard deviation of how much better these parts are than the student, once all is known."""
        model, active = self._model, len(self._model.active)
        slopes = chances * (1 - chances) / len(chances)
        weight = np.zeros(2 * active)
        for n in np.searchsorted(model.active, np.array(chosen, dtype=np.int64)).tolist():
            weight[n], weight[active + n] = slopes.sum(), (model.active_relevance[n] * slopes).sum()
        by_model = float((matvec(root_later[self._of_parts].T, weight) ** 2).sum())
        by_finals = 2 * float((chances * (1 - chances)).mean()) / self._finals
        return math.sqrt(1 / (1 / max(by_model, 1e-12) + 1 / max(by_finals, 1e-12)))

    def _bring_in_new_parts(self, values: Vector, scale: float) -> None:
        """Replace the effects of each part by those of a new one that is like it, where that turns out better."""
        active = len(self._model.active)
        if not self._new_parts:
            return
        relevance = self._relevance
        like: Indices = self._draws.integers(0, active, self._new_parts)
        relevance_of_new, specific = relevance[like], relevance[like] > 0
        deviations = scale * priors.of_parts(specific)
        coming = self._more / 2 * self._usual_information[:, None]
        learned = deviations**2 * np.sqrt(coming / (1 + deviations**2 * coming))
        everywhere, nearby = learned * self._draws.standard_normal(learned.shape)
        worth = everywhere + relevance_of_new * nearby
        own = values[PARTS : PARTS + active] + relevance * values[PARTS + active : PARTS + 2 * active]
        best_last = np.argsort(worth, kind="stable")
        better = best_last[worth[best_last] > own[like[best_last]]]
        values[PARTS + like[better]], values[PARTS + active + like[better]] = everywhere[better], nearby[better]
