"""Which program is better than the one in use beyond doubt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simba_actors.search.evidence import Evidence
from simba_actors.search.model.estimation import sigmoid
from simba_actors.search.model.part_model import Effects, PartModel
from simba_actors.search.statistics.sequential_test import Comparison, always_valid, compare_pairs

ERROR = 0.05
"""The chance that a run ever takes a program for better that is none, over all its programs and looks together."""

ALPHA = 2 * ERROR
"""Of the intervals, which miss on either side as often; only being too high matters."""

LEAST_OWN_SCORES = 12
"""What a model expects of a program counts when it has shown at least on so many rollouts that it runs."""

DRAWS = 200
"""From the posterior, for an interval."""


@dataclass(frozen=True, slots=True)
class ClearWinner:
    """A program that is better than the one in use, by how much, and how many examples that is a mean over."""

    program: int
    comparison: Comparison
    examples: int


class _Row(NamedTuple):
    """What scores have in common that are comparable: an example, at a temperature."""

    split: str
    example: int
    temperature: float | None


def clear_winner_by_model(
    model: PartModel, evidence: Evidence, incumbent: int, learnt_from: Mapping[int, Collection[int]]
) -> ClearWinner | None:
    """The program that is best by a model of parts, if it is better than the `incumbent` beyond doubt.

    What few rollouts say is shrunk towards what the others say, so that the best of many is no lucky one, and the
    number of programs calls for no smaller error (Gelman, Hill and Yajima, "Why we (usually) don't have to worry about
    multiple comparisons", 2012). The number of looks does. Examples that either program learnt from are left out.
    """
    tried = [program for program in model.programs if _own_scores(evidence, program) >= LEAST_OWN_SCORES]
    qualities = model.qualities(model.likely)
    best = max(tried, key=lambda program: (qualities[program], -program), default=incumbent)
    excluded = {*learnt_from.get(best, ()), *learnt_from.get(incumbent, ())}
    rows = [row for row in range(model.trainset) if row not in excluded]
    if best == incumbent or not rows:
        return None
    difference, variance = _difference(model, best, incumbent, rows)
    known = qualities[incumbent]
    comparison = always_valid(difference, known * (1 - known) * model.range.width**2, variance, ALPHA)
    return ClearWinner(best, comparison, len(rows)) if comparison.is_better else None


def _difference(model: PartModel, best: int, incumbent: int, rows: Sequence[int]) -> tuple[float, float]:
    """How much better `best` is on `rows`, in the metric's units: the mean and the variance.

    Effects that both programs share are drawn once for both, so that what is not known of either does not count.
    """
    (best_own, best_spread), (incumbent_own, incumbent_spread) = map(model.own_effect, (best, incumbent))

    def gap(effects: Effects, best_own: float, incumbent_own: float) -> float:
        new = sigmoid(model.log_odds(best, effects)[list(rows)] + best_own)
        old = sigmoid(model.log_odds(incumbent, effects)[list(rows)] + incumbent_own)
        return float((new - old).mean()) * model.range.width

    draws = np.random.default_rng(0)  # Of its own: a look must not change what the search draws next.
    drawn = [
        gap(model.draw(draws, 1.0), draws.normal(best_own, best_spread), draws.normal(incumbent_own, incumbent_spread))
        for _ in range(DRAWS)
    ]
    return gap(model.likely, best_own, incumbent_own), float(np.var(drawn))


def clear_winner_by_pairs(
    evidence: Evidence, incumbent: int, learnt_from: Mapping[int, Collection[int]]
) -> ClearWinner | None:
    """The program that is most certainly better than the `incumbent` by scores on the same examples, if one is.

    Programs are compared on the examples that both were scored on. Those that a program `learnt_from`, its own demos
    among them, say nothing about others and are left out.
    """
    rivals = [program for program in evidence.programs() if program != incumbent]
    known = _means(evidence, incumbent)
    best: ClearWinner | None = None
    for program in rivals:
        excluded = {*learnt_from.get(program, ()), *learnt_from.get(incumbent, ())}
        means = _means(evidence, program)
        differences = [means[row] - known[row] for row in means if row in known and row.example not in excluded]
        comparison = compare_pairs(differences, ALPHA / len(rivals))
        if comparison.is_better and (best is None or comparison.low > best.comparison.low):
            best = ClearWinner(program, comparison, len(differences))
    return best


def _means(evidence: Evidence, program: int) -> dict[_Row, float]:
    """The program's mean score on each row with the student's own LM."""
    scores: defaultdict[_Row, list[float]] = defaultdict(list)
    for score in evidence.of(program):
        if score.model.is_student_lm:
            scores[_Row(score.split, score.example, score.model.temperature)].append(float(score.score))
    return {row: sum(values) / len(values) for row, values in scores.items()}


def _own_scores(evidence: Evidence, program: int) -> int:
    return sum(score.model.is_student_lm for score in evidence.of(program))
