"""A model of the value of each part of a prompt, learned from every rollout of every program that had the part.

The log-odds of a score are a sum: a level, the example's ease, what each part adds everywhere, what it adds on examples
that it is about, what demos do by the answers they show and by the positions of these, and what the length of the
prompt costs. So a rollout informs about all parts of its program at once, like a trial of a factorial experiment
(Fisher, "The design of experiments", 1935), and the value of a combination can be predicted before it is tried. The
value of a program beyond the sum of its parts is estimated from its own rollouts and shrunk towards zero.

`part_fit` finds these effects. The model here predicts from them what programs score on a panel of examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import cast

import numpy as np

from simba_actors.search.evidence import StudentScores
from simba_actors.search.model.design import Composition
from simba_actors.search.model.effects import (
    CROWDING,
    DEMOS,
    LEVEL,
    PARTS,
    RULES,
    SAME_ANSWER,
    SHOWN,
    Effects,
    LengthEffects,
)
from simba_actors.search.model.examples import Examples
from simba_actors.search.model.part_fit import PartFit
from simba_actors.search.model.parts import Part
from simba_actors.search.model.parts_held import PartsHeld
from simba_actors.search.model.warm_start import DIGITS, PartEffect, WarmStart
from simba_actors.search.statistics.linear_algebra import Indices, Matrix, Vector, matmul, matvec
from simba_actors.search.statistics.mixed_model import mean_sigmoid, sigmoid

AT_A_TIME = 128
"""Number of programs whose scores are predicted at a time."""

LEADERS = 32
"""Number of programs compared under draws: those most likely to be the best."""


class PartModel:
    """The posterior of all effects given the scores, and what it says about programs.

    `programs` maps the number of each program to its parts, in the order of its prompt. `settings` are further parts,
    which no program needs to have. `start` is what an earlier fit of the same run left for this one.
    """

    def __init__(
        self,
        programs: Mapping[int, Sequence[Part]],
        scores: StudentScores,
        examples: Examples,
        settings: Sequence[Part] = (),
        start: WarmStart | None = None,
    ) -> None:
        self._start = start or WarmStart()
        self.composition = composition = Composition(programs, examples, settings)
        self.parts, self.programs, self.order = composition.parts, composition.programs, composition.order
        self.examples, self.panel = examples, examples.panel
        self.fit = fit = PartFit(composition, scores, examples, self._start)
        self.range, self.active = fit.range, fit.active
        self.posterior, self.order_matters = fit.posterior, fit.order_matters
        self.likely = self.effects_of(self.posterior.effects)
        """The most likely effects."""
        self._expected_on_panel: dict[int, tuple[float, Vector, float]] = {}

    def warm_start(self) -> WarmStart:
        """Return the starting point of the next fit."""
        effects, active = self.posterior.effects.round(DIGITS).tolist(), len(self.active)
        promise = self.promise.round(DIGITS).tolist()
        known = {part.part_id for part in self.parts}
        parts = {part_id: effect for part_id, effect in self._start.parts.items() if part_id in known}
        for n, part in enumerate(self.active.tolist()):
            found = PartEffect(effects[PARTS + n], effects[PARTS + active + n], promise[part])
            parts[self.parts[part].part_id] = found
        order = tuple(effects[PARTS + 2 * active :])
        return WarmStart(tuple(effects[:PARTS]), parts, order, self.order_matters, self.fit.order_tested_with)

    def draw(self, draws: np.random.Generator, scale: float) -> Effects:
        """Draw possible effects, with their distance from the most likely ones multiplied by `scale`."""
        untried, deviations = self.fit.untried
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
        own = self.fit.own.mean[rows] - self.fit.own.weight[rows] * shift + deviates * self.fit.own.deviation[rows]
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
        parts, held, relevance, same_answer = self._parts_of_leaders
        sums = matmul(held * effects.nearby[parts], relevance)
        sums += effects.same_answer * same_answer
        sums += matvec(held, effects.everywhere[parts])[:, None]
        return sums

    @cached_property
    def _parts_of_leaders(self) -> tuple[list[int], Matrix, Matrix, Matrix]:
        """The parts that leaders have, and three matrices: a row for each leader with a 1 for each of them that it has,
        the relevance of each to each example of the panel, and how many of a leader's demos show the example's
        answer."""
        parts = sorted({part for program in self.leaders for part in self.programs[program]})
        index = {part: n for n, part in enumerate(parts)}
        held = PartsHeld.of([[index[part] for part in self.programs[program]] for program in self.leaders])
        own = held.matrix(np.arange(len(parts)), len(parts))
        return parts, own, self.composition.relevance_on_panel[parts], matmul(own, self.composition.shows[parts])

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

    def own_contrast(self, program: int, other: int) -> tuple[float, float]:
        """Return what the programs' own effects add to their difference if their prior is as narrow as is likely.

        That is the mean beyond that of `contrast`, and the standard deviation.
        """
        own, row, other_row = self.fit.own, self.composition.row[program], self.composition.row[other]
        slope, other_slope = self._expected(program)[2], self._expected(other)[2]
        mean, deviation = own.under(own.narrowest, row)
        other_mean, other_deviation = own.under(own.narrowest, other_row)
        beyond = slope * (mean - float(own.mean[row])) - other_slope * (other_mean - float(own.mean[other_row]))
        return beyond, math.hypot(slope * deviation, other_slope * other_deviation)

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
            self.fit.design.slope(program, slopes)[: len(self.posterior.effects)],
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
        log_odds = effects.student + of_parts + self._length_effect(prompt, effects)
        if self.order_matters:
            log_odds += matvec(effects.in_order.T, self.order.placement(prompt))
        return log_odds

    def own_effect(self, program: int) -> tuple[float, float]:
        """Return a program's value beyond its parts, in log-odds: the mean and the standard deviation."""
        row = self.composition.row[program]
        return float(self.fit.own.mean[row]), float(self.fit.own.deviation[row])

    @cached_property
    def promise(self) -> Vector:
        """Mean effect of each part on an example if it is one standard deviation better than estimated."""
        active, root = len(self.active), self.posterior.covariance_root
        relevance = self.composition.mean_relevance[self.active]
        same = self.composition.shows[self.active].mean(axis=1)
        roots = (
            root[PARTS : PARTS + active]
            + relevance[:, None] * root[PARTS + active : PARTS + 2 * active]
            + same[:, None] * root[SAME_ANSWER]
        )
        promise = self.fit.known_promise
        likely = self.likely
        means = likely.everywhere[self.active] + likely.nearby[self.active] * relevance + likely.same_answer * same
        promise[self.active] = means + np.sqrt((roots**2).sum(axis=1))
        return promise

    def _means(self) -> list[float]:
        """Return the expected score of each program on the panel under the most likely effects."""
        of_parts, means = self.likely.of(slice(None)), list[float]()
        for start in range(0, len(self.programs), AT_A_TIME):
            rows = np.arange(start, min(start + AT_A_TIME, len(self.programs)))
            sums = self.composition.holds.sums(of_parts, rows)
            log_odds = self._log_odds(self.likely, sums, rows, self.composition.answers_shown_by(rows))
            log_odds += self.fit.own.mean[rows, None]
            means += mean_sigmoid(log_odds).tolist()
        return means

    def _log_odds(self, effects: Effects, sums: Matrix, programs: Indices, show: Matrix) -> Matrix:
        """Return the log-odds of these programs' parts on each example of the panel.

        `sums` has the sum of the effects of each program's parts, and `show` how much of each answer the program shows.
        """
        log_odds = sums + effects.student
        log_odds += effects.shown * show
        if self.order_matters:
            log_odds += matmul(self.order.placements[programs], effects.in_order)
        log_odds += matvec(self.composition.length[programs], np.array(effects.length))[:, None]
        return log_odds

    @cached_property
    def active_relevance(self) -> Matrix:
        """Relevance of each active part (row) to each example of the panel (column), from 0 to 1."""
        return self.composition.relevance_on_panel[self.active]

    def effects_of(self, values: Vector, others: Matrix | None = None) -> Effects:
        """Return the effects on the panel if those of the design's columns are `values`.

        `others` is added to the effects, everywhere and nearby, of the parts that are not fitted.
        """
        active, panel = len(self.active), self.panel
        effects = self.fit.settled if others is None else self.fit.settled + others
        effects = effects.copy()
        effects[self.active] = np.column_stack([values[PARTS : PARTS + active], values[PARTS + active :][:active]])
        length = LengthEffects(float(values[RULES]), float(values[DEMOS]), float(values[CROWDING]))
        student = values[LEVEL] + self.posterior.ease[:panel]
        in_order = np.zeros((0, panel))
        if self.order_matters:
            in_order = self.order.on_examples(values[PARTS + 2 * active :], panel)
        return Effects(
            student=student,
            everywhere=effects[:, 0],
            nearby=effects[:, 1],
            relevance=self.composition.relevance_on_panel,
            same_answer=float(values[SAME_ANSWER]),
            shown=float(values[SHOWN]),
            shows=self.composition.shows,
            in_order=in_order,
            length=length,
        )

    def _length_effect(self, prompt: Sequence[int], effects: Effects) -> float:
        rules, demos, crowd = self.composition.lengths(prompt)
        return effects.length.rule * rules + effects.length.demo * demos + effects.length.crowding * crowd
