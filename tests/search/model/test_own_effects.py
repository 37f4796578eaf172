"""What programs are worth beyond their parts, and how much the model expects of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.model.priors import BEYOND_PARTS
from simba_actors.search.rollout import RolloutKey
from simba_actors.search.statistics.mixed_model import sigmoid
from tests.search.model.texts import examples_of

ROWS = tuple(f"row {n}" for n in range(40))
RULES = tuple(Part(f"rule {n}", "self", "rule", f"advice {n}") for n in range(14))
PROGRAMS = 40
UNTRIED = PROGRAMS
ROLLOUTS = 20

Worth = Callable[[int, tuple[int, ...]], float]
"""The log-odds of a program with these rules."""


def model_of(worth: Worth, rollouts: int = ROLLOUTS) -> PartModel:
    """Return the model after some rollouts of programs with four rules each, and none of one more."""
    draws = np.random.default_rng(0)
    held = [tuple(sorted(draws.choice(len(RULES), 4, replace=False).tolist())) for _ in range(PROGRAMS + 1)]
    scores: list[Score] = []
    for program in range(PROGRAMS):
        right = sigmoid(worth(program, held[program]))
        for n, row in enumerate(draws.choice(len(ROWS), rollouts, replace=False).tolist()):
            key = RolloutKey(0, "evaluate", program * 1_000 + n)
            scores.append(Score(key, program, row, float(draws.random() < right)))
    programs = {number: tuple(RULES[n] for n in own) for number, own in enumerate(held)}
    return PartModel(programs, Evidence(scores).student_scores(), examples_of(ROWS))


def by_parts(_: int, held: tuple[int, ...]) -> float:
    """Half of the rules help, and the others harm."""
    return sum(0.4 if rule % 2 else -0.4 for rule in held)


def by_combination(program: int, _: tuple[int, ...]) -> float:
    """What a rule is worth depends on the others."""
    return float(np.random.default_rng(program).normal(-0.5, 1.2))


def expected_deviation(model: PartModel) -> float:
    return model.own_effect(UNTRIED)[1]


def test_more_is_expected_beyond_the_parts_where_the_combination_matters() -> None:
    assert expected_deviation(model_of(by_combination)) > 1.5 * expected_deviation(model_of(by_parts))


def test_programs_are_ranked_by_their_own_rollouts_where_the_combination_matters() -> None:
    qualities = model_of(by_combination).qualities
    truth = [by_combination(program, ()) for program in range(PROGRAMS)]
    estimates = [qualities[program] for program in range(PROGRAMS)]
    assert np.corrcoef(truth, estimates)[0, 1] > 0.85


def test_a_few_rollouts_of_each_program_are_too_few_to_expect_more_than_usual() -> None:
    assert expected_deviation(model_of(by_parts, rollouts=2)) == pytest.approx(BEYOND_PARTS)


def test_the_usual_is_expected_without_any_rollout() -> None:
    assert expected_deviation(model_of(by_parts, rollouts=0)) == pytest.approx(BEYOND_PARTS)
