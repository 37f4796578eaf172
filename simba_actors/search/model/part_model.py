"""A model of the value of each part of a prompt, learned from every rollout of every program that had the part.

The log-odds of a score are a sum: a level, the example's ease, what each part adds everywhere, what it adds on examples
that it is about, what demos do by the answers they show and by where those stand, and what the length of the prompt
costs. So a rollout informs about all parts of its program at once, like a trial of a factorial experiment (Fisher,
"The design of experiments", 1935), and the value of a combination can be predicted before it is tried. The value of a
program beyond the sum of its parts is estimated from its own rollouts and shrunk towards zero.

The cost of a fit is bounded. Only the most promising parts are fitted. The effects of the others stay as they were last
fitted, or at their prior if they never were. Scores are predicted on a panel of examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import cast

import numpy as np

from simba_actors.search.evidence import StudentScores
from simba_actors.search.model.design import Composition, Design
from simba_actors.search.model.effects import (
    CROWDING,
    DEMOS,
    LEVEL,
    PARTS,
    RESAMPLED,
    RULES,
    SAME_ANSWER,
    SHOWN,
    Effects,
    ScoreRange,
)
from simba_actors.search.model.examples import Examples
from simba_actors.search.model.mode import DIGITS, Mode, PartEffect
from simba_actors.search.model.parts import Part
from simba_actors.search.model.parts_held import PartsHeld
from simba_actors.search.statistics.linear_algebra import Booleans, Indices, Matrix, Vector, matmul, matvec
from simba_actors.search.statistics.mixed_model import STALE, Observations, Posterior, fit, mean_sigmoid, sigmoid

PRIOR = (2.0, 0.3, 0.3, 0.3, 0.3, 0.3, 2.0)
"""Standard deviations of the columns before `PARTS`, in log-odds. For scale: from 50 to 60 % is 0.4.

Those of the length are as wide as that of a part's own effect. Good programs tend to have many parts: under a narrow
prior the parts would get too little credit and their number too little blame. That of `SHOWN` is wide because a small
LM may never give an answer that its demos do not show (the label space: Min et al., "Rethinking the role of
demonstrations: what makes in-context learning work?", 2022)."""

GENERAL, SPECIFIC, NEARBY = 0.3, 0.12, 0.8
"""Standard deviations, in log-odds, of three effects: of general parts, of specific parts, and of specific parts on the
examples that they are about."""

IN_ORDER = 0.6
"""Standard deviation, in log-odds, of the effect of an answer in one position."""

WORTH_A_MENTION = 1.0
"""Minimum gain in log-likelihood for which the model includes effects of the order of answers. Less is "not worth more
than a bare mention" (Kass and Raftery, "Bayes factors", 1995)."""

ROUGHLY = 1.0
"""Possible error of that gain if it is computed with curvatures as old as `STALE` allows. Most gains are so far below
`WORTH_A_MENTION` that they need no exact fit."""

ORDER_TESTED_AGAIN = 1.5
"""Factor by which the number of scores must have grown before the order is tested again."""

EASE, BEYOND_PARTS = 1.0, 0.2
"""Standard deviations, in log-odds, of the ease of examples, and of a program's value beyond its parts."""

PAIR_OF_DEMOS = 0.02
"""Increase of `BEYOND_PARTS` per pair of demos in one prompt: the same demos can be near the best in one order, and
near chance in another (Lu et al., "Fantastically ordered prompts and where to find them", 2022)."""

ACTIVE = 60
"""Maximum number of parts that are fitted."""

AT_A_TIME = 128
"""Number of programs whose scores are predicted at a time."""

LEADERS = 32
"""Number of programs compared under draws: those most likely to be the best."""


class PartModel:
    """The posterior of all effects given the scores, and what it says about programs.

    `programs` maps the number of each program to its parts, in the order of its prompt. `settings` are further parts,
    which no program needs to have. `start` is the result of an earlier fit of the same run.
    """

    def __init__(
        self,
        programs: Mapping[int, Sequence[Part]],
        scores: StudentScores,
        examples: Examples,
        settings: Sequence[Part] = (),
        start: Mode | None = None,
    ) -> None:
        self._start = start or Mode()
        self.composition = composition = Composition(programs, examples, settings)
        self.parts, self.programs, self.order = composition.parts, composition.programs, composition.order
        self.examples, self.panel = examples, examples.panel
        pairs = PAIR_OF_DEMOS * composition.demos * (composition.demos - 1) / 2
        self._own_prior = np.sqrt(BEYOND_PARTS**2 + (pairs**2).sum(axis=1))

        self.range = ScoreRange.of(scores.extremes)
        self._program, example, score, resampled = self._usable(scores)
        self.active = self._most_promising()
        """Parts that are fitted."""
        self._settled = self._settled_effects()
        self._design = Design(composition, self.active, self._settled)
        tests_order = len(score) >= ORDER_TESTED_AGAIN * self._start.order_tested_with
        design, offset = self._design.rows(self._program, example, tests_order or self._start.order_matters)
        design[:, RESAMPLED] = resampled
        self._score = score
        observed = Observations(design, example, score, offset)
        self.posterior, self.order_matters, self._order_tested_with = self._fitted(observed, tests_order)
        """The posterior of the effects of the design's columns, and whether the order of answers is among them."""
        self.likely = self.effects_of(self.posterior.effects)
        """The most likely effects."""
        self._own_mean, self._own_deviation, self._own_weight = self._beyond_parts()
        self._expected_on_panel: dict[int, tuple[float, Vector, float]] = {}

    def _usable(self, scores: StudentScores) -> tuple[Indices, Indices, Vector, Booleans]:
        """Return the program's row, the example's position, the value and the resampling of each score, by example."""
        example = self.examples.positions_of(scores.validation, scores.example)
        order = np.argsort(np.where(example < 0, self.examples.count, example), kind="stable")
        order = order[: int((example >= 0).sum())]
        rows: Indices = np.array([self.composition.row[number] for number in scores.programs], dtype=np.int64)
        score = (scores.score - self.range.low) / self.range.width
        return rows[scores.program[order]], example[order], score[order], scores.resampled[order]

    def _most_promising(self) -> Indices:
        """Return the parts to fit: the most promising ones, and among new ones those with the most scores."""
        if len(self.parts) <= ACTIVE:
            return np.arange(len(self.parts))
        counts = self.composition.holds.count_by_part(
            np.bincount(self._program, minlength=len(self.programs)), len(self.parts)
        )
        order = np.lexsort((-counts, -self._known_promise()))
        return np.sort(order[:ACTIVE])

    def _known_promise(self) -> Vector:
        """Return each part's promise as last fitted, or that of the prior."""
        known, prior = self._start.parts, np.hypot(*self._prior_of(np.arange(len(self.parts))))
        promises = [
            known[part.part_id].promise if part.part_id in known else prior[n] for n, part in enumerate(self.parts)
        ]
        return np.array(promises, dtype=np.float64)

    def _prior_of(self, parts: Indices) -> tuple[Vector, Vector]:
        """Return the standard deviations of these parts' effects, everywhere and averaged over their own examples."""
        nearby = NEARBY * self._mean_nearness[parts]
        return np.where(self.composition.specific[parts], SPECIFIC, GENERAL), nearby

    def _settled_effects(self) -> Matrix:
        """Return the effects of each part that is not fitted, everywhere and nearby; 0 for those that are."""
        settled = np.zeros((len(self.parts), 2))
        others: list[int] = self._not_active.tolist()
        for n in others:
            effect = self._start.parts.get(self.parts[n].part_id)
            if effect is not None:
                settled[n] = effect.everywhere, effect.nearby
        return settled

    @cached_property
    def _untried(self) -> tuple[Indices, Matrix]:
        """Parts that were never fitted, and the standard deviations of their effects, everywhere and nearby."""
        others: list[int] = self._not_active.tolist()
        untried = np.array([n for n in others if self.parts[n].part_id not in self._start.parts], dtype=np.int64)
        general, _ = self._prior_of(untried)
        return untried, np.column_stack([general, np.full(len(untried), NEARBY)])

    @cached_property
    def _not_active(self) -> Indices:
        others = np.ones(len(self.parts), dtype=np.bool_)
        others[self.active] = False
        return np.flatnonzero(others)

    def _fitted(self, observed: Observations, tests_order: bool) -> tuple[Posterior, bool, int]:
        """Return the posterior, whether it has effects of the order of answers, and how many scores decided that.

        The effects of the order are included if they make the scores much more likely. Where the order does nothing,
        their many columns would only add noise. Choosing between priors by the evidence is type II maximum likelihood
        (Good, "The estimation of probabilities", 1965).
        """
        columns, start, count = self.order.columns, self._start, len(observed.score)
        first = self._first_effects()
        prior = np.concatenate([self._prior(), np.full(columns, IN_ORDER)])
        in_order = np.array(start.order if len(start.order) == columns else np.zeros(columns))
        if not tests_order and start.order_matters and columns:
            effects = np.concatenate([first, in_order])
            return fit(observed, prior, self.examples.count, EASE, effects, STALE), True, start.order_tested_with
        without_order = observed.without_last(columns) if tests_order else observed
        plain = fit(without_order, self._prior(), self.examples.count, EASE, first, STALE)
        if not tests_order or not columns:
            return plain, False, 0 if tests_order else start.order_tested_with
        effects = np.concatenate([plain.effects, in_order])
        ordered = fit(observed, prior, self.examples.count, EASE, effects, STALE)
        if ordered.log_marginal_likelihood - plain.log_marginal_likelihood > WORTH_A_MENTION - ROUGHLY:
            plain = fit(without_order, self._prior(), self.examples.count, EASE, plain.effects)
            ordered = fit(observed, prior, self.examples.count, EASE, ordered.effects)
        matters = ordered.log_marginal_likelihood > plain.log_marginal_likelihood + WORTH_A_MENTION
        return (ordered if matters else plain), matters, count

    def _first_effects(self) -> Vector:
        """Return the effects that the fit starts from, without those of the order."""
        active: list[int] = self.active.tolist()
        known = [self._start.parts.get(self.parts[n].part_id) for n in active]
        common = self._start.common or (0.0,) * PARTS
        everywhere = [0.0 if effect is None else effect.everywhere for effect in known]
        nearby = [0.0 if effect is None else effect.nearby for effect in known]
        return np.array([*common, *everywhere, *nearby])

    def mode(self) -> Mode:
        """Return the starting point of the next fit."""
        effects, active = self.posterior.effects.round(DIGITS).tolist(), len(self.active)
        promise = self.promise.round(DIGITS).tolist()
        known = {part.part_id for part in self.parts}
        parts = {part_id: effect for part_id, effect in self._start.parts.items() if part_id in known}
        for n, part in enumerate(self.active.tolist()):
            found = PartEffect(effects[PARTS + n], effects[PARTS + active + n], promise[part])
            parts[self.parts[part].part_id] = found
        order = tuple(effects[PARTS + 2 * active :])
        return Mode(tuple(effects[:PARTS]), parts, order, self.order_matters, self._order_tested_with)

    def draw(self, draws: np.random.Generator, scale: float) -> Effects:
        """Draw possible effects, with their distance from the most likely ones multiplied by `scale`."""
        untried, deviations = self._untried
        others = np.zeros((len(self.parts), 2))
        if len(untried):
            others[untried] = scale * deviations * draws.standard_normal(deviations.shape)
        return self.effects_of(self.posterior.draw(draws, scale), others)

    @cached_property
    def qualities(self) -> dict[int, float]:
        """Expected score, from 0 to 1, of each program on the panel, taking its own rollouts into account."""
        return dict(zip(self.programs, self._means(), strict=True))

    @cached_property
    def leaders(self) -> tuple[int, ...]:
        """Programs most likely to be the best, in the order of their numbers."""
        best = sorted(self.qualities, key=lambda program: (-self.qualities[program], program))
        return tuple(sorted(best[:LEADERS]))

    def qualities_under(self, effects: Effects) -> dict[int, float]:
        """Return the expected score of each leader on the panel under these effects."""
        return self._leaders_under(effects, 0.0)

    def drawn_qualities(self, draws: np.random.Generator, scale: float) -> dict[int, float]:
        """Return the `qualities_under` a draw of all effects, including each program's own effect."""
        effects = self.draw(draws, scale)
        return self._leaders_under(effects, scale * draws.standard_normal(len(self.leaders)))

    def _leaders_under(self, effects: Effects, deviates: Vector | float) -> dict[int, float]:
        """Return the expected score of each leader.

        Its own effect is `deviates` standard deviations above the likely one. The program's rollouts stay the same
        whatever the effects of its parts, so the own effect makes up for part of the difference.
        """
        rows = self._leader_rows
        log_odds = self._log_odds(effects, self._sums_of_leaders(effects), rows, self._leaders_show)
        shift = log_odds.mean(axis=1) - self._likely_log_odds_of_leaders
        own = self._own_mean[rows] - self._own_weight[rows] * shift + deviates * self._own_deviation[rows]
        means = mean_sigmoid(log_odds + own[:, None])
        return dict(zip(self.leaders, means.tolist(), strict=True))

    @cached_property
    def _leader_rows(self) -> Indices:
        return np.array([self.composition.row[program] for program in self.leaders], dtype=np.int64)

    @cached_property
    def _leaders_show(self) -> Matrix:
        return self.composition.answers_shown_by(self._leader_rows)

    @cached_property
    def _likely_log_odds_of_leaders(self) -> Vector:
        """The most likely log-odds of each leader's parts, averaged over the panel."""
        sums = self._sums_of_leaders(self.likely)
        return cast("Vector", self._log_odds(self.likely, sums, self._leader_rows, self._leaders_show).mean(axis=1))

    def _sums_of_leaders(self, effects: Effects) -> Matrix:
        """Return the sum of the effects of each leader's parts on each example of the panel."""
        parts, held, near, same_answer = self._parts_of_leaders
        sums = matmul(held * effects.nearby[parts], near)
        sums += effects.same_answer * same_answer
        sums += matvec(held, effects.everywhere[parts])[:, None]
        return sums

    @cached_property
    def _parts_of_leaders(self) -> tuple[list[int], Matrix, Matrix, Matrix]:
        """The parts that leaders have, a row for each leader with a 1 for each of them that it has, how near each of
        them is to each example of the panel, and how many of each leader's demos show the example's answer."""
        parts = sorted({part for program in self.leaders for part in self.programs[program]})
        index = {part: n for n, part in enumerate(parts)}
        held = PartsHeld.of([[index[part] for part in self.programs[program]] for program in self.leaders])
        own = held.matrix(np.arange(len(parts)), len(parts))
        return parts, own, self.composition.near[parts], matmul(own, self.composition.shows[parts])

    def difference(self, program: int, other: int, rows: Sequence[int] | None = None) -> tuple[float, float]:
        """Return the mean and the standard deviation of how much more `program` scores than `other` on the panel.

        Both are on a scale from 0 to 1. If `rows` is given, only these examples of the panel count. Parts that the
        programs have in common are equally uncertain for both, so they add nothing to the deviation.
        """
        gain, slope, own = self.contrast(program, other, rows)
        return gain, math.hypot(own, *matvec(self.posterior.covariance_root.T, slope))

    def contrast(self, program: int, other: int, rows: Sequence[int] | None = None) -> tuple[float, Vector, float]:
        """Return the expected difference of two programs, its slope, and its deviation from the programs' own effects.

        The slope is the derivative with respect to each effect of the posterior. `rows` is as for `difference`.
        """
        mean, slope, own_slope = self._expected(program, rows)
        other_mean, other_slope, other_own_slope = self._expected(other, rows)
        own = own_slope * self.own_effect(program)[1], other_own_slope * self.own_effect(other)[1]
        return mean - other_mean, slope - other_slope, math.hypot(*own)

    def deviation(self, program: int) -> float:
        """Return the standard deviation, in log-odds, of a program's expected score on the panel."""
        mean, slope, own_slope = self._expected(program)
        own = own_slope * self.own_effect(program)[1]
        return math.hypot(*matvec(self.posterior.covariance_root.T, slope), own) / max(mean * (1 - mean), 1e-9)

    def _expected(self, program: int, rows: Sequence[int] | None = None) -> tuple[float, Vector, float]:
        """Return a program's expected score, and its derivatives with respect to the effects and the own effect.

        With a normal posterior the derivatives give the uncertainty of the score (the delta method).
        """
        if rows is None and program in self._expected_on_panel:
            return self._expected_on_panel[program]
        examples = slice(None) if rows is None else list(rows)
        log_odds = self.log_odds(program, self.likely)[examples] + self.own_effect(program)[0]
        chances = sigmoid(log_odds)
        slopes = np.zeros(self.panel)
        slopes[examples] = chances * (1 - chances) / len(chances)
        expected = (
            float(chances.mean()),
            self._design.slope(program, slopes)[: len(self.posterior.effects)],
            float(slopes.sum()),
        )
        if rows is None:
            self._expected_on_panel[program] = expected
        return expected

    def log_odds(self, program: int, effects: Effects) -> Vector:
        """Return the log-odds of a program's parts on each example of the panel."""
        return self.log_odds_of(self.programs[program], effects)

    def log_odds_of(self, prompt: Sequence[int], effects: Effects) -> Vector:
        """Return the log-odds of a prompt with these parts, in this order, on each example of the panel."""
        of_parts = effects.of(list(prompt)).sum(axis=0) + effects.shown * self.composition.answers_shown(prompt)
        log_odds = effects.bare + of_parts + self._length_effect(prompt, effects)
        if self.order_matters:
            log_odds += matvec(effects.in_order.T, self.order.standing(prompt))
        return log_odds

    def own_effect(self, program: int) -> tuple[float, float]:
        """Return a program's value beyond its parts, in log-odds: the mean and the standard deviation."""
        row = self.composition.row[program]
        return float(self._own_mean[row]), float(self._own_deviation[row])

    @cached_property
    def promise(self) -> Vector:
        """Mean effect of each part on an example if it is one standard deviation better than estimated."""
        active, root = len(self.active), self.posterior.covariance_root
        near = self._mean_nearness[self.active]
        same = self.composition.shows[self.active].mean(axis=1)
        roots = (
            root[PARTS : PARTS + active]
            + near[:, None] * root[PARTS + active : PARTS + 2 * active]
            + same[:, None] * root[SAME_ANSWER]
        )
        promise = self._known_promise()
        likely = self.likely
        means = likely.everywhere[self.active] + likely.nearby[self.active] * near + likely.same_answer * same
        promise[self.active] = means + np.sqrt((roots**2).sum(axis=1))
        return promise

    @cached_property
    def _mean_nearness(self) -> Vector:
        """Mean relevance of each part to the examples of the panel."""
        return cast("Vector", self.composition.near.mean(axis=1))

    def _means(self) -> list[float]:
        """Return the expected score of each program on the panel under the most likely effects."""
        of_parts, means = self.likely.of(slice(None)), list[float]()
        for start in range(0, len(self.programs), AT_A_TIME):
            rows = np.arange(start, min(start + AT_A_TIME, len(self.programs)))
            sums = self.composition.holds.sums(of_parts, rows)
            log_odds = self._log_odds(self.likely, sums, rows, self.composition.answers_shown_by(rows))
            log_odds += self._own_mean[rows, None]
            means += mean_sigmoid(log_odds).tolist()
        return means

    def _log_odds(self, effects: Effects, sums: Matrix, programs: Indices, show: Matrix) -> Matrix:
        """Return the log-odds of these programs' parts on each example of the panel.

        `sums` has the sum of the effects of each program's parts, and `show` how much of each answer the program shows.
        """
        log_odds = sums + effects.bare
        log_odds += effects.shown * show
        if self.order_matters:
            log_odds += matmul(self.order.standings[programs], effects.in_order)
        log_odds += matvec(self.composition.length[programs], np.array(effects.length))[:, None]
        return log_odds

    def _beyond_parts(self) -> tuple[Vector, Vector, Vector]:
        """Return each program's own effect: the mode, the deviation around it, and the weight of its own rollouts.

        The mode is approximated by one Newton step under the prior of own effects.
        """
        programs = len(self.programs)
        prior = self._own_prior**-2.0
        expected = sigmoid(self.posterior.log_odds)
        surprise = np.bincount(self._program, self._score - expected, programs)
        information = np.bincount(self._program, expected * (1 - expected), programs)
        precision = information + prior
        return surprise / precision, precision**-0.5, information / precision

    @cached_property
    def prior(self) -> Vector:
        """Standard deviation, before any score, of each effect of `posterior`."""
        in_order = len(self.posterior.effects) - PARTS - 2 * len(self.active)
        return np.concatenate([self._prior(), np.full(in_order, IN_ORDER)])

    @cached_property
    def near_active(self) -> Matrix:
        """Relevance of each active part to each example of the panel, from 0 to 1."""
        return self.composition.near[self.active]

    def _prior(self) -> Vector:
        specific = self.composition.specific[self.active]
        everywhere = np.where(specific, SPECIFIC, GENERAL)
        return np.concatenate([np.array(PRIOR), everywhere, np.full(len(specific), NEARBY)])

    def effects_of(self, values: Vector, others: Matrix | None = None) -> Effects:
        """Return the effects on the panel if those of the design's columns are `values`.

        `others` is added to the effects, everywhere and nearby, of the parts that are not fitted.
        """
        active, panel = len(self.active), self.panel
        effects = self._settled if others is None else self._settled + others
        effects = effects.copy()
        effects[self.active] = np.column_stack([values[PARTS : PARTS + active], values[PARTS + active :][:active]])
        length = (float(values[RULES]), float(values[DEMOS]), float(values[CROWDING]))
        bare = values[LEVEL] + self.posterior.ease[:panel]
        in_order = np.zeros((0, panel))
        if self.order_matters:
            in_order = self.order.on_rows(values[PARTS + 2 * active :], panel)
        return Effects(
            bare=bare,
            everywhere=effects[:, 0],
            nearby=effects[:, 1],
            near=self.composition.near,
            same_answer=float(values[SAME_ANSWER]),
            shown=float(values[SHOWN]),
            answers=self.composition.shows,
            in_order=in_order,
            length=length,
        )

    def _length_effect(self, prompt: Sequence[int], effects: Effects) -> float:
        rules, demos, crowd = self.composition.lengths(prompt)
        return effects.length[0] * rules + effects.length[1] * demos + effects.length[2] * crowd
