"""What each part of a prompt is worth, from every rollout of every program that had it.

The log-odds of a score are taken to be a sum: a level, the example's ease, what each part adds everywhere, what it adds
on examples that it is about, what demos do by the answers that they show and by where those stand, and what the length
of the prompt costs. A rollout so tells of all parts of its program at once, as a trial does of all factors in a
factorial experiment (Fisher, "The design of experiments", 1935), and what parts are worth together is known before they
were ever together. What a program is worth beyond the sum of its parts is estimated from its own rollouts, and shrunk
towards nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.answer_order import AnswerOrder
from simba_actors.search.model.answers import Answers
from simba_actors.search.model.estimation import Indices, Matrix, Observations, Posterior, Vector, fit, sigmoid
from simba_actors.search.model.parts import Part
from simba_actors.search.model.similarity import Similarity

LEVEL, RESAMPLED, RULES, DEMOS, CROWDING, SAME_ANSWER, SHOWN, PARTS = range(8)
"""Columns of the design: what all programs have, whether the LM was set to sample, and what the length costs,
how many demos show the answer that the example calls for, and whether any does. From `PARTS` on each
part has two: its effect everywhere, and its effect on examples that it is about. Those of `AnswerOrder` follow."""

PRIOR = (2.0, 0.3, 0.3, 0.3, 0.3, 0.3, 2.0)
"""Standard deviations of the columns before `PARTS`, in log-odds. For scale: from 50 to 60 % is 0.4.

Those of the length are as wide as that of a part's own effect: good parts and many of them come together, and under a
narrow prior the parts would be credited with less, and the crowd be blamed for less, than is due. That of `SHOWN` is
wide because a small LM may give no answer that its demos do not show (the label space: Min et al., "Rethinking the role
of demonstrations: what makes in-context learning work?", 2022)."""

GENERAL, SPECIFIC, NEARBY = 0.3, 0.12, 0.8
"""The same for a part that is about no example in particular, for one that is, and for the latter on its examples."""

IN_ORDER = 0.6
"""The same for an answer in one position, on examples that call for one answer."""

WORTH_A_MENTION = 1.0
"""By how much, in logarithms, the scores must be likelier with effects of the order than without, to have them: less is
"not worth more than a bare mention" (Kass and Raftery, "Bayes factors", 1995)."""

EASE, BEYOND_PARTS = 1.0, 0.2
"""The same for the ease of examples, and for what a program is worth beyond its parts."""

PAIR_OF_DEMOS = 0.02
"""What each pair of demos in one prompt adds to the latter: the same ones can be near the best in one order, and near
chance in another (Lu et al., "Fantastically ordered prompts and where to find them", 2022)."""

CROWD = 10.0
"""Divides the square of a prompt's number of parts, so that its column is of the size of the others."""


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """The metric's range: 0 to 1, or what was seen where scores were seen outside of that."""

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, scores: Sequence[float]) -> ScoreRange:
        low, high = min(scores, default=0.0), max(scores, default=1.0)
        return cls() if low >= 0 and high <= 1 else cls(low, max(high, low + 1e-9, math.nextafter(low, math.inf)))

    @property
    def width(self) -> float:
        return self.high - self.low

    def to_unit(self, score: float) -> float:
        return (float(score) - self.low) / self.width

    def from_unit(self, share: float) -> float:
        return self.low + share * self.width


@dataclass(frozen=True, slots=True)
class Effects:
    """One state of affairs that the evidence allows, in log-odds; examples are columns.

    `bare` is the student on each example, `of_parts` what each part adds there. `shown` is what it adds that any demo
    shows the example's answer, and `answers` how much of that each part shows, from 0 to 1. `in_order` is what each
    answer adds in each position: see `AnswerOrder.on_rows`. `length` is what a rule, a demo, and the crowd that they
    make add.
    """

    bare: Vector
    of_parts: Matrix
    shown: float
    answers: Matrix
    in_order: Matrix
    length: tuple[float, float, float]

    def of_length(self, rules: int, demos: int) -> float:
        """What one predictor's prompt gains or loses by the number of its rules and demos alone."""
        rule, demo, crowding = self.length
        return rule * rules + demo * demos + crowding * (rules + demos) ** 2 / CROWD


class PartModel:
    """The posterior of all effects given the evidence, and what it says of programs."""

    def __init__(
        self,
        programs: Mapping[int, Sequence[Part]],
        evidence: Evidence,
        similarity: Similarity,
        answers: Answers,
        trainset: int,
        untried: Sequence[Part] = (),
    ) -> None:
        """`programs` are the pool's, as parts, and `untried` parts that none of them need have.

        In `similarity` and `answers`, a valset's rows follow the trainset's.
        """
        known = {part.part_id: part for parts in (*programs.values(), untried) for part in parts}
        self.parts = tuple(known.values())
        place = {part_id: n for n, part_id in enumerate(known)}
        self.programs = {number: tuple(place[part.part_id] for part in parts) for number, parts in programs.items()}
        near = [similarity.to_rows(part.text) for part in self.parts]
        self._near: Matrix = np.array(near).reshape(len(near), similarity.rows)
        same = [answers.to_rows(part.fields) for part in self.parts]
        self._same: Matrix = np.array(same).reshape(len(near), similarity.rows)
        self.order = AnswerOrder(self.parts, answers, self.programs.values())
        self.trainset = trainset
        scores = [score for number in evidence.programs() for score in evidence.of(number) if _of_student(score)]
        self.range = ScoreRange.of([float(score.score) for score in scores])
        self._row = {program: row for row, program in enumerate(self.programs)}
        self._holds: Matrix = np.zeros((len(self.programs), len(self.parts)))
        for row, places in enumerate(self.programs.values()):
            self._holds[row, list(places)] = 1.0
        self._shown: Matrix = np.array([self.answers_shown(places) for places in self.programs.values()])
        self._standing: Matrix = np.array([self.order.standing(places) for places in self.programs.values()])
        self._length: Matrix = np.array([self._lengths(places) for places in self.programs.values()])
        self._own_spread: Vector = np.array([self._spread_beyond_parts(places) for places in self.programs.values()])
        self._program = np.array([self._row[score.program] for score in scores], dtype=np.int64)
        self._observed = self._observations(scores)
        self._posterior, self.order_matters = self._fitted(similarity.rows)
        self.likely = self._effects(self._posterior.effects)
        self._own_effects = self._beyond_parts(self._log_odds_of_programs(self.likely))

    def _fitted(self, rows: int) -> tuple[Posterior, bool]:
        """The posterior, with effects of the order of answers if the scores are much likelier so, and whether they are.

        Choosing between priors by the evidence is type II maximum likelihood (Good, "The estimation of probabilities",
        1965): where the order does nothing, its many columns would only add to the noise.
        """
        columns = self.order.columns
        of_parts = fit(self._observed.without_last(columns), self._prior(), rows, EASE)
        if not columns:
            return of_parts, False
        prior = np.concatenate([self._prior(), np.full(columns, IN_ORDER)])
        in_order = fit(self._observed, prior, rows, EASE, start=of_parts)
        order_matters = in_order.evidence > of_parts.evidence + WORTH_A_MENTION
        return (in_order if order_matters else of_parts), order_matters

    def draw(self, draws: np.random.Generator, scale: float) -> Effects:
        """Effects as they may be, their distance from the most likely ones times `scale`."""
        return self._effects(self._posterior.draw(draws, scale))

    def qualities(self, effects: Effects) -> dict[int, float]:
        """The expected score of each program of the pool on the trainset, its own rollouts counted, from 0 to 1."""
        log_odds = self._log_odds_of_programs(effects)
        beyond, _ = self._beyond_parts(log_odds)
        return self._by_program(self._mean_scores(log_odds, beyond))

    def drawn_qualities(self, draws: np.random.Generator, scale: float) -> dict[int, float]:
        """`qualities` as they may be: under a draw of all effects, each program's own among them."""
        log_odds = self._log_odds_of_programs(self.draw(draws, scale))
        beyond, deviations = self._beyond_parts(log_odds)
        beyond = beyond + scale * deviations * draws.standard_normal(len(beyond))
        return self._by_program(self._mean_scores(log_odds, beyond))

    def drawn_qualities_of(self, programs: Sequence[int], draws: np.random.Generator, count: int) -> Matrix:
        """The same for these programs alone, with their own effects drawn around the likely ones.

        A row for each of `count` draws, a column for each program.
        """
        effects = len(self._posterior.effects)
        deviates = draws.standard_normal((count, effects + len(programs)))
        drawn = self._posterior.at(deviates[:, :effects])
        own = [self.own_effect(program) for program in programs]
        beyond = [mean + deviation * deviates[:, effects + n] for n, (mean, deviation) in enumerate(own)]
        return np.column_stack([self._means_under(drawn, *each) for each in zip(programs, beyond, strict=True)])

    def drawn_means(self, program: int, draws: np.random.Generator, count: int) -> Vector:
        """The expected score of a program by its parts alone, under each of `count` draws of their effects."""
        drawn = self._posterior.at(draws.standard_normal((count, len(self._posterior.effects))))
        return self._means_under(drawn, program, np.zeros(count))

    def _means_under(self, drawn: Matrix, program: int, beyond_parts: Vector) -> Vector:
        """The expected score of a program under each row of `drawn` effects, with its own effect there."""
        design = self._design(np.full(self.trainset, self._row[program]), np.arange(self.trainset))
        log_odds = drawn @ design[:, : drawn.shape[1]].T + self._posterior.ease[: self.trainset]
        return sigmoid(log_odds + beyond_parts[:, None]).mean(axis=1)

    def log_odds(self, program: int, effects: Effects) -> Vector:
        """What the parts of a program of the pool make of each example of the trainset."""
        return self.log_odds_of(self.programs[program], effects)

    def log_odds_of(self, places: Sequence[int], effects: Effects) -> Vector:
        """What parts in this order make of each example of the trainset."""
        of_parts = effects.of_parts[list(places)].sum(axis=0) + effects.shown * self.answers_shown(places)
        of_order = self.order.standing(places) @ effects.in_order
        return (effects.bare + of_parts + of_order + self._length_effect(places, effects))[: self.trainset]

    def answers_shown(self, places: Sequence[int]) -> Vector:
        """How much of each example's answer is shown by any of these parts, from 0 to 1."""
        return self._same[list(places)].max(axis=0, initial=0.0)

    def own_effect(self, program: int) -> tuple[float, float]:
        """What a program of the pool is worth beyond its parts, in log-odds: the mean and the standard deviation."""
        means, deviations = self._own_effects
        return float(means[self._row[program]]), float(deviations[self._row[program]])

    def promise(self, draws: np.random.Generator, samples: int) -> Vector:
        """For each part, what it adds to the log-odds of a middling example, were it a standard deviation better."""
        mean = self.likely.of_parts[:, : self.trainset].mean(axis=1)
        drawn = [self.draw(draws, 1.0).of_parts[:, : self.trainset].mean(axis=1) for _ in range(samples)]
        return mean + np.std(drawn, axis=0)

    def own_means(self) -> dict[int, float]:
        """The mean score of each program that was tried, from 0 to 1."""
        tried = sorted({int(row) for row in self._program})
        numbers = list(self.programs)
        return {numbers[row]: float(self._observed.score[self._program == row].mean()) for row in tried}

    def _mean_scores(self, log_odds: Matrix, beyond_parts: Vector) -> Vector:
        return sigmoid(log_odds + beyond_parts[:, None])[:, : self.trainset].mean(axis=1)

    def _by_program(self, means: Vector) -> dict[int, float]:
        return {program: float(mean) for program, mean in zip(self.programs, means, strict=True)}

    def _log_odds_of_programs(self, effects: Effects) -> Matrix:
        of_length = self._length @ np.array(effects.length)
        of_parts = self._holds @ effects.of_parts + effects.shown * self._shown
        return effects.bare + of_parts + self._standing @ effects.in_order + of_length[:, None]

    def _beyond_parts(self, log_odds: Matrix) -> tuple[Vector, Vector]:
        """One Newton step for each program's own effect under its prior: the mode, and the deviation around it.

        `log_odds` has a row for each program.
        """
        expected = sigmoid(log_odds[self._program, self._observed.example])
        surprise = np.bincount(self._program, self._observed.score - expected, len(log_odds))
        precision = np.bincount(self._program, expected * (1 - expected), len(log_odds)) + self._own_spread**-2
        return surprise / precision, precision**-0.5

    def _observations(self, scores: Sequence[Score]) -> Observations:
        example = [score.example + (self.trainset if score.split == "val" else 0) for score in scores]
        rows = np.array(example, dtype=np.int64)
        design = self._design(self._program, rows)
        design[:, RESAMPLED] = [score.model.temperature is not None for score in scores]
        unit = [self.range.to_unit(score.score) for score in scores]
        return Observations(design, rows, np.array(unit, dtype=np.float64))

    def _design(self, program: Indices, example: Indices) -> Matrix:
        """A row for each rollout of a program, given by its place among them, on an example, as it runs in use."""
        in_order = PARTS + 2 * len(self.parts)
        design = np.zeros((len(example), in_order + self.order.columns))
        design[:, LEVEL] = 1.0
        held = self._holds[program]
        design[:, RULES : CROWDING + 1] = self._length[program]
        design[:, SAME_ANSWER] = (held * self._same[:, example].T).sum(axis=1)
        design[:, SHOWN] = self._shown[program, example]
        design[:, PARTS:in_order:2] = held
        design[:, PARTS + 1 : in_order : 2] = held * self._near[:, example].T
        design[:, in_order:] = self.order.design(self._standing[program], example)
        return design

    def _prior(self) -> Vector:
        specific = self._near.max(axis=1, initial=0.0) > 0
        of_parts = np.column_stack([np.where(specific, SPECIFIC, GENERAL), np.full(len(specific), NEARBY)])
        return np.concatenate([np.array(PRIOR), of_parts.ravel()])

    def _effects(self, values: Vector) -> Effects:
        in_order = PARTS + 2 * len(self.parts)
        everywhere, nearby = values[PARTS:in_order:2], values[PARTS + 1 : in_order : 2]
        length = (float(values[RULES]), float(values[DEMOS]), float(values[CROWDING]))
        bare = values[LEVEL] + self._posterior.ease
        of_parts = everywhere[:, None] + nearby[:, None] * self._near + values[SAME_ANSWER] * self._same
        order = values[in_order:] if self.order_matters else np.zeros(self.order.columns)
        of_order = self.order.on_rows(order)
        return Effects(bare, of_parts, float(values[SHOWN]), self._same, of_order, length)

    def _length_effect(self, places: Sequence[int], effects: Effects) -> float:
        rules, demos, crowd = self._lengths(places)
        return effects.length[0] * rules + effects.length[1] * demos + effects.length[2] * crowd

    def _spread_beyond_parts(self, places: Sequence[int]) -> float:
        """The standard deviation, in log-odds, of what such programs are worth beyond their parts."""
        demos = Counter(self.parts[place].predictor for place in places if self.parts[place].kind == "demo")
        return math.hypot(BEYOND_PARTS, *(PAIR_OF_DEMOS * math.comb(count, 2) for count in demos.values()))

    def _lengths(self, places: Sequence[int]) -> tuple[float, float, float]:
        """Rules, demos, and the crowd that they make, summed over predictors."""
        counts: dict[str, list[int]] = {}
        for place in places:
            part = self.parts[place]
            if part.kind != "setting":
                counts.setdefault(part.predictor, [0, 0])[part.kind == "demo"] += 1
        crowd = sum((rules + demos) ** 2 for rules, demos in counts.values()) / CROWD
        return sum(rules for rules, _ in counts.values()), sum(demos for _, demos in counts.values()), crowd


def _of_student(score: Score) -> bool:
    """Whether a score says what the student's LM makes of the program; a teacher's does not."""
    return score.model.is_student_lm
