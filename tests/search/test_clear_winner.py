"""The program that is clearly better than the one in use."""

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
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.rollout import ModelSpec, RolloutKey
from tests.search.model.texts import examples_of

OWN = ModelSpec()


def scored(program: int, examples: range, score: float, model: ModelSpec = OWN) -> list[Score]:
    """Return scores that rise a little from example to example, so that they vary."""
    return [
        Score(RolloutKey(program, "evaluate", example), program, example, score + example / 1000 * (1 + program), model)
        for example in examples
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


def test_examples_that_a_program_was_made_from_do_not_count() -> None:
    evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40), 0.8)])
    winner = clear_winner_by_pairs(evidence, 0, {1: {3, 4}})
    assert winner is not None
    assert winner.examples == 38
    assert clear_winner_by_pairs(evidence, 0, {1: set(range(30))}) is None


def test_without_scores_no_program_wins() -> None:
    assert clear_winner_by_pairs(Evidence(), 0, {}) is None


EXAMPLES = tuple(f"example {n}" for n in range(60))
RULES = tuple(Part(f"rule {n}", "self", "rule", f"rule number {n}") for n in range(8))
PROGRAMS = {0: (), **{n + 1: (rule,) for n, rule in enumerate(RULES)}}


def rolled_out(chances: Mapping[int, float], *, seed: int = 0, count: int = 60, scale: float = 1.0) -> Evidence:
    """Run each program on `count` examples; with its chance it is right, which scores `scale`."""
    draws = np.random.default_rng(seed)
    return Evidence(
        Score(
            RolloutKey(0, "evaluate", program * 1_000 + example),
            program,
            example,
            scale * float(draws.random() < chance),
        )
        for program, chance in chances.items()
        for example in range(count)
    )


def by_model(evidence: Evidence, learned_from: Mapping[int, Collection[int]] | None = None) -> ClearWinner | None:
    model = PartModel(PROGRAMS, evidence.student_scores(), examples_of(EXAMPLES))
    return clear_winner_by_model(model, evidence, 0, learned_from or {})


def test_a_program_that_is_better_by_the_model_beyond_doubt_wins() -> None:
    winner = by_model(rolled_out(dict.fromkeys(PROGRAMS, 0.3) | {3: 0.9}))
    assert winner is not None
    assert (winner.program, winner.examples) == (3, 60)
    assert 0 < winner.comparison.low < winner.comparison.difference < winner.comparison.high


def test_the_luckiest_of_many_equally_good_programs_seldom_wins_by_the_model() -> None:
    winners = [by_model(rolled_out(dict.fromkeys(PROGRAMS, 0.5), seed=seed)) for seed in range(60)]
    assert sum(winner is not None for winner in winners) <= 3


def test_a_program_that_hardly_ran_does_not_win_however_good_the_model_thinks_it_is() -> None:
    evidence = rolled_out({0: 0.1})
    evidence.add(rolled_out({3: 1.0}, count=LEAST_OWN_SCORES - 1).of(3))
    assert by_model(evidence) is None


def test_the_difference_is_in_units_of_the_metric() -> None:
    winner = by_model(rolled_out({0: 0.2, 3: 0.9}, scale=300.0))
    assert winner is not None
    assert 50 < winner.comparison.difference < 300


def test_the_model_too_leaves_out_examples_that_a_program_was_made_from() -> None:
    evidence = rolled_out({0: 0.2, 3: 0.9})
    winner = by_model(evidence, {3: {3, 4}})
    assert winner is not None
    assert winner.examples == 58
    assert by_model(evidence, {3: set(range(60))}) is None


def test_the_model_gives_the_same_answer_when_asked_again() -> None:
    evidence = rolled_out({0: 0.2, 3: 0.9})
    assert by_model(evidence) == by_model(evidence)
