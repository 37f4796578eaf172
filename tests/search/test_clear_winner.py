"""Which program is better than the one in use beyond doubt."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from simba_actors.search.clear_winner import (
    LEAST_OWN_SCORES,
    ClearWinner,
    clear_winner_by_model,
    clear_winner_by_pairs,
)
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.answers import Answers
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.model.similarity import Similarity
from simba_actors.search.plan import ModelSpec, RolloutKey

OWN = ModelSpec()


def scored(program: int, rows: range, score: float, model: ModelSpec = OWN) -> list[Score]:
    """A score that rises a little from row to row, so that it has a spread."""
    return [
        Score(RolloutKey(program, "evaluate", row), program, row, score + row / 1000 * (1 + program), model)
        for row in rows
    ]


def test_a_program_that_is_better_on_the_same_examples_wins() -> None:
    evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40), 0.8), *scored(2, range(40), 0.5)])
    winner = clear_winner_by_pairs(evidence, 0, {})
    assert winner is not None
    assert (winner.program, winner.examples) == (1, 40)


def test_a_program_is_not_compared_with_itself() -> None:
    evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40), 0.8)])
    assert clear_winner_by_pairs(evidence, 1, {}) is None


def test_scores_on_other_examples_are_no_comparison() -> None:
    evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40, 80), 0.8)])
    assert clear_winner_by_pairs(evidence, 0, {}) is None


def test_scores_at_another_temperature_or_of_another_lm_are_no_comparison() -> None:
    for model in (ModelSpec(temperature=1.0), ModelSpec("teacher")):
        evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40), 0.8, model)])
        assert clear_winner_by_pairs(evidence, 0, {}) is None


def test_rows_that_a_program_learnt_from_say_nothing() -> None:
    evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40), 0.8)])
    winner = clear_winner_by_pairs(evidence, 0, {1: {3, 4}})
    assert winner is not None
    assert winner.examples == 38
    assert clear_winner_by_pairs(evidence, 0, {1: set(range(30))}) is None


def test_without_scores_nobody_wins() -> None:
    assert clear_winner_by_pairs(Evidence(), 0, {}) is None


ROWS = tuple(f"row {n}" for n in range(60))
RULES = tuple(Part(f"rule {n}", "self", "rule", f"rule number {n}") for n in range(8))
PROGRAMS = {0: (), **{n + 1: (rule,) for n, rule in enumerate(RULES)}}


def rolled_out(chances: Mapping[int, float], *, seed: int = 0, count: int = 60, scale: float = 1.0) -> Evidence:
    """Each program on `count` rows, right (a score of `scale`) by its chance."""
    draws = np.random.default_rng(seed)
    return Evidence(
        Score(RolloutKey(0, "evaluate", program * 1_000 + row), program, row, scale * float(draws.random() < chance))
        for program, chance in chances.items()
        for row in range(count)
    )


def by_model(evidence: Evidence, learnt_from: Mapping[int, Collection[int]] | None = None) -> ClearWinner | None:
    model = PartModel(PROGRAMS, evidence, Similarity(ROWS), Answers([{}] * len(ROWS)), len(ROWS))
    return clear_winner_by_model(model, evidence, 0, learnt_from or {})


def test_what_the_model_takes_for_better_beyond_doubt_wins() -> None:
    winner = by_model(rolled_out(dict.fromkeys(PROGRAMS, 0.3) | {3: 0.9}))
    assert winner is not None
    assert (winner.program, winner.examples) == (3, 60)
    assert 0 < winner.comparison.low < winner.comparison.difference < winner.comparison.high


def test_the_luckiest_of_many_equally_good_programs_seldom_wins_by_the_model() -> None:
    winners = [by_model(rolled_out(dict.fromkeys(PROGRAMS, 0.5), seed=seed)) for seed in range(60)]
    assert sum(winner is not None for winner in winners) <= 3


def test_a_program_that_hardly_ran_does_not_win_however_well_the_model_thinks_of_it() -> None:
    evidence = rolled_out({0: 0.1})
    evidence.add(rolled_out({3: 1.0}, count=LEAST_OWN_SCORES - 1).of(3))
    assert by_model(evidence) is None


def test_a_difference_by_the_model_is_in_units_of_the_metric() -> None:
    winner = by_model(rolled_out({0: 0.2, 3: 0.9}, scale=300.0))
    assert winner is not None
    assert 50 < winner.comparison.difference < 300


def test_rows_that_a_program_learnt_from_are_left_out_by_the_model_too() -> None:
    evidence = rolled_out({0: 0.2, 3: 0.9})
    winner = by_model(evidence, {3: {3, 4}})
    assert winner is not None
    assert winner.examples == 58
    assert by_model(evidence, {3: set(range(60))}) is None


def test_a_look_by_the_model_says_the_same_as_the_one_before() -> None:
    evidence = rolled_out({0: 0.2, 3: 0.9})
    assert by_model(evidence) == by_model(evidence)
