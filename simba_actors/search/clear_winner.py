"""The program, if any, that is better than the one in use beyond doubt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from simba_actors.search.evidence import Evidence
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.statistics.sequential_test import Comparison, always_valid, compare_pairs

FAMILYWISE_ERROR = 0.05
"""Chance that a run ever mistakes a program for a better one, over all its programs and looks together."""

ALPHA = 2 * FAMILYWISE_ERROR
"""Error of the two-sided intervals. They miss on each side half the time, and only one side matters here."""

LEAST_OWN_SCORES = 12
"""Rollouts that a program needs of its own before the model's estimate of it counts."""


@dataclass(frozen=True, slots=True)
class ClearWinner:
    """A program that is better than the one in use."""

    program: int
    """The program's number in the pool."""
    comparison: Comparison
    """Comparison of the program with the incumbent."""
    examples: int
    """Number of examples that the comparison is a mean over."""


class _Condition(NamedTuple):
    """Example and temperature; scores are comparable only if they share both."""

    split: str
    example: int
    temperature: float | None


def clear_winner_by_model(
    model: PartModel, evidence: Evidence, incumbent: int, learned_from: Mapping[int, Collection[int]]
) -> ClearWinner | None:
    """Return the best program by a model of parts, if it is better than the `incumbent` beyond doubt.

    Estimates from few rollouts are shrunk towards what the other rollouts say, so the number of programs requires no
    smaller error (A. Gelman, J. Hill and M. Yajima, "Why we (usually) don't have to worry about multiple comparisons",
    Journal of Research on Educational Effectiveness 5, 2012). The number of looks does, hence the always-valid
    interval. Examples that either program was made from are left out.
    """
    tried = [program for program in model.programs if _own_scores(evidence, program) >= LEAST_OWN_SCORES]
    qualities = model.qualities
    best = max(tried, key=lambda program: (qualities[program], -program), default=incumbent)
    excluded = {*learned_from.get(best, ()), *learned_from.get(incumbent, ())}
    panel = model.examples.train[: model.panel]
    rows = [row for row, example in enumerate(panel) if example not in excluded]
    if best == incumbent or not rows:
        return None
    gain, deviation = model.difference(best, incumbent, rows)
    width = model.range.width
    known = qualities[incumbent]
    comparison = always_valid(gain * width, known * (1 - known) * width**2, (deviation * width) ** 2, ALPHA)
    return ClearWinner(best, comparison, len(rows)) if comparison.is_better else None


def clear_winner_by_pairs(
    evidence: Evidence, incumbent: int, learned_from: Mapping[int, Collection[int]]
) -> ClearWinner | None:
    """Return the program that most certainly beats the `incumbent` on the same examples, if one does.

    Programs are compared on the examples that both were scored on, without those that either was made from.
    """
    rivals = [program for program in evidence.programs() if program != incumbent]
    known = _means(evidence, incumbent)
    best: ClearWinner | None = None
    for program in rivals:
        excluded = {*learned_from.get(program, ()), *learned_from.get(incumbent, ())}
        means = _means(evidence, program)
        differences = [
            means[condition] - known[condition]
            for condition in means
            if condition in known and condition.example not in excluded
        ]
        comparison = compare_pairs(differences, ALPHA / len(rivals))
        if comparison.is_better and (best is None or comparison.low > best.comparison.low):
            best = ClearWinner(program, comparison, len(differences))
    return best


def _means(evidence: Evidence, program: int) -> dict[_Condition, float]:
    """Return the program's mean score in each condition, with the student's own LM."""
    scores: defaultdict[_Condition, list[float]] = defaultdict(list)
    for score in evidence.of(program):
        if score.model.is_student_lm:
            scores[_Condition(score.split, score.example, score.model.temperature)].append(float(score.score))
    return {condition: sum(values) / len(values) for condition, values in scores.items()}


def _own_scores(evidence: Evidence, program: int) -> int:
    return sum(score.model.is_student_lm for score in evidence.of(program))
