"""The fit of the model of parts to the scores of a run: which parts take part in it, and what it finds.

The cost of a fit is bounded. Only the most promising parts are fitted. The effects of the others stay as they were last
fitted, or at their prior if they never were.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from simba_actors.search.evidence import StudentScores
from simba_actors.search.model import priors
from simba_actors.search.model.design import Composition, Design
from simba_actors.search.model.effects import PARTS, RESAMPLED, ScoreRange
from simba_actors.search.model.examples import Examples
from simba_actors.search.model.own_effects import OwnEffects, own_effects
from simba_actors.search.model.warm_start import WarmStart
from simba_actors.search.statistics.linear_algebra import Booleans, Indices, Matrix, Vector
from simba_actors.search.statistics.mixed_model import STALE, Observations, Posterior, fit

WORTH_A_MENTION = 1.0
"""Minimum gain in log-likelihood for which the model includes effects of the order of answers. Less is "not worth more
than a bare mention" (Kass and Raftery, "Bayes factors", 1995)."""

ROUGHLY = 1.0
"""Possible error of that gain if it is computed with curvatures as old as `STALE` allows. Most gains are so far below
`WORTH_A_MENTION` that they need no exact fit."""

ORDER_TESTED_AGAIN = 1.5
"""Factor by which the number of scores must have grown before the order is tested again."""

ACTIVE = 60
"""Maximum number of parts that are fitted. With 120, runs in planted worlds gain no more (see `tests/benchmarks`)."""


class PartFit:
    """What the scores say about the effects of the columns of the design, and about single programs.

    `start` is what an earlier fit of the same run left for this one.
    """

    def __init__(self, composition: Composition, scores: StudentScores, examples: Examples, start: WarmStart) -> None:
        self._composition, self._examples, self._start = composition, examples, start
        self.range = ScoreRange.of(scores.extremes)
        """The range of the metric."""
        self.program, example, self.score, resampled = self._usable(scores)
        """The row of each score's program, and each score on a scale from 0 to 1; both are ordered by example."""
        self.active = self._most_promising()
        """Indices of the parts that are fitted, ascending."""
        self.settled = self._settled_effects()
        """Two columns, the effects everywhere and nearby of each part that is not fitted; 0 for those that are."""
        self.design = Design(composition, self.active, self.settled)
        tests_order = len(self.score) >= ORDER_TESTED_AGAIN * start.order_tested_with
        rows, offset = self.design.rows(self.program, example, tests_order or start.order_matters)
        rows[:, RESAMPLED] = resampled
        observed = Observations(rows, example, self.score, offset)
        self.posterior, self.order_matters, self.order_tested_with = self._fitted(observed, tests_order)
        """The posterior of the effects, whether those of the order of answers are among them, and the number of scores
        when that was last tested."""
        self.own = self._own_effects(observed)
        """What each program is worth beyond its parts, in log-odds."""

    def _usable(self, scores: StudentScores) -> tuple[Indices, Indices, Vector, Booleans]:
        """Return the program's row, the example's position, the value and the resampling of each score, by example.

        Scores on examples that the search does not use are left out.
        """
        example = self._examples.positions_of(scores.validation, scores.example)
        order = np.argsort(np.where(example < 0, self._examples.count, example), kind="stable")
        order = order[: int((example >= 0).sum())]
        rows: Indices = np.array([self._composition.row[number] for number in scores.programs], dtype=np.int64)
        score = (scores.score - self.range.low) / self.range.width
        return rows[scores.program[order]], example[order], score[order], scores.resampled[order]

    def _most_promising(self) -> Indices:
        """Return the parts to fit: the most promising ones, and among new ones those with the most scores."""
        parts, programs = len(self._composition.parts), len(self._composition.programs)
        if parts <= ACTIVE:
            return np.arange(parts)
        counts = self._composition.holds.weight_by_part(np.bincount(self.program, minlength=programs), parts)
        order = np.lexsort((-counts, -self.known_promise))
        return np.sort(order[:ACTIVE])

    @property
    def known_promise(self) -> Vector:
        """Each part's promise as last fitted, or one standard deviation of the prior if it never was."""
        everywhere, nearby = priors.of_parts(self._composition.specific)
        prior = np.hypot(everywhere, nearby * self._composition.mean_relevance)
        known = self._start.parts
        promises = [
            known[part.part_id].promise if part.part_id in known else prior[n]
            for n, part in enumerate(self._composition.parts)
        ]
        return np.array(promises, dtype=np.float64)

    def _settled_effects(self) -> Matrix:
        parts = self._composition.parts
        settled = np.zeros((len(parts), 2))
        others: list[int] = self._not_active.tolist()
        for n in others:
            effect = self._start.parts.get(parts[n].part_id)
            if effect is not None:
                settled[n] = effect.everywhere, effect.nearby
        return settled

    @cached_property
    def untried(self) -> tuple[Indices, Matrix]:
        """Parts that were never fitted, and two columns, the priors of their effects everywhere and nearby."""
        parts, others = self._composition.parts, self._not_active.tolist()
        untried = np.array([n for n in others if parts[n].part_id not in self._start.parts], dtype=np.int64)
        return untried, priors.of_parts(self._composition.specific[untried]).T

    @cached_property
    def _not_active(self) -> Indices:
        others = np.ones(len(self._composition.parts), dtype=np.bool_)
        others[self.active] = False
        return np.flatnonzero(others)

    def _fitted(self, observed: Observations, tests_order: bool) -> tuple[Posterior, bool, int]:
        """Return the posterior, whether it has effects of the order of answers, and how many scores decided that.

        The effects of the order are included if they make the scores much more likely. Where the order does nothing,
        their many columns would only add noise. Choosing between priors by the marginal likelihood is type II maximum
        likelihood (Good, "The estimation of probabilities", 1965).
        """
        columns, start, examples = self._composition.order.columns, self._start, self._examples.count
        first, prior_of_first = self._first_effects(), self._prior(0)
        prior = self._prior(columns)
        in_order = np.array(start.order if len(start.order) == columns else np.zeros(columns))
        if not tests_order and start.order_matters and columns:
            effects = np.concatenate([first, in_order])
            return fit(observed, prior, examples, priors.EASE, effects, STALE), True, start.order_tested_with
        without_order = observed.without_last(columns) if tests_order else observed
        plain = fit(without_order, prior_of_first, examples, priors.EASE, first, STALE)
        if not tests_order or not columns:
            return plain, False, 0 if tests_order else start.order_tested_with
        effects = np.concatenate([plain.effects, in_order])
        ordered = fit(observed, prior, examples, priors.EASE, effects, STALE)
        gain = ordered.log_marginal_likelihood - plain.log_marginal_likelihood
        if gain > WORTH_A_MENTION - ROUGHLY:
            plain = fit(without_order, prior_of_first, examples, priors.EASE, plain.effects)
            ordered = fit(observed, prior, examples, priors.EASE, ordered.effects)
        matters = ordered.log_marginal_likelihood > plain.log_marginal_likelihood + WORTH_A_MENTION
        return (ordered if matters else plain), matters, len(observed.score)

    def _own_effects(self, observed: Observations) -> OwnEffects:
        """Return the own effects. Where they are larger than usual, fit once more beside them.

        Otherwise the parts would get credit for what a single program does.
        """
        prior = priors.beyond_parts(self._composition.demos)
        own = own_effects(observed, self.program, self.posterior, prior)
        if own.width == 1:
            return own
        columns, offset = len(self.posterior.effects), observed.offset + own.mean[self.program]
        beside = replace(observed, design=observed.design[:, :columns], offset=offset)
        self.posterior = fit(beside, self.prior, self._examples.count, priors.EASE, self.posterior.effects, STALE)
        return own_effects(beside, self.program, self.posterior, prior, own.mean)

    def _first_effects(self) -> Vector:
        """Return the effects that the fit starts from, without those of the order."""
        active: list[int] = self.active.tolist()
        known = [self._start.parts.get(self._composition.parts[n].part_id) for n in active]
        common = self._start.common or (0.0,) * PARTS
        everywhere = [0.0 if effect is None else effect.everywhere for effect in known]
        nearby = [0.0 if effect is None else effect.nearby for effect in known]
        return np.array([*common, *everywhere, *nearby])

    def _prior(self, in_order: int) -> Vector:
        return priors.of_columns(self._composition.specific[self.active], in_order)

    @cached_property
    def prior(self) -> Vector:
        """Standard deviation, before any score, of each effect of `posterior`."""
        return self._prior(len(self.posterior.effects) - PARTS - 2 * len(self.active))
