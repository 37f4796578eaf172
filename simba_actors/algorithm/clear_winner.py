"""Which program is better than the one in use beyond doubt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from simba_actors.algorithm.evidence import Evidence
from simba_actors.algorithm.sequential_test import Comparison, compare_pairs

ERROR = 0.05
"""The chance that a run ever takes a program for better that is none, over all its programs and looks together."""


@dataclass(frozen=True, slots=True)
class ClearWinner:
    """A program that is better than the one in use, by how much, and on how many examples that shows."""

    program: int
    comparison: Comparison
    examples: int


class _Row(NamedTuple):
    """What scores have in common that are comparable: an example, at a temperature."""

    split: str
    example: int
    temperature: float | None


def clear_winner(evidence: Evidence, incumbent: int, learnt_from: Mapping[int, Collection[int]]) -> ClearWinner | None:
    """The program that is most certainly better than the `incumbent`, if one is.

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
        comparison = compare_pairs(differences, ERROR / len(rivals))
        if comparison.is_better and (best is None or comparison.low > best.comparison.low):
            best = ClearWinner(program, comparison, len(differences))
    return best


def _means(evidence: Evidence, program: int) -> dict[_Row, float]:
    """The program's mean score on each row with the student's own LM."""
    scores: defaultdict[_Row, list[float]] = defaultdict(list)
    for score in evidence.of(program):
        if score.model.lm == "student":
            scores[_Row(score.split, score.example, score.model.temperature)].append(float(score.score))
    return {row: sum(values) / len(values) for row, values in scores.items()}
