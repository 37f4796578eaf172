"""Which program is better than the one in use beyond doubt."""

from __future__ import annotations

from simba_actors.algorithm.clear_winner import clear_winner
from simba_actors.algorithm.evidence import Evidence, Score
from simba_actors.algorithm.plan import ModelSpec, RolloutKey

OWN = ModelSpec()


def scored(program: int, rows: range, score: float, model: ModelSpec = OWN) -> list[Score]:
    """A score that rises a little from row to row, so that it has a spread."""
    return [
        Score(RolloutKey(program, "evaluate", row), program, row, score + row / 1000 * (1 + program), model)
        for row in rows
    ]


def test_a_program_that_is_better_on_the_same_examples_wins() -> None:
    evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40), 0.8), *scored(2, range(40), 0.5)])
    winner = clear_winner(evidence, 0, {})
    assert winner is not None
    assert (winner.program, winner.examples) == (1, 40)


def test_a_program_is_not_compared_with_itself() -> None:
    evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40), 0.8)])
    assert clear_winner(evidence, 1, {}) is None


def test_scores_on_other_examples_are_no_comparison() -> None:
    evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40, 80), 0.8)])
    assert clear_winner(evidence, 0, {}) is None


def test_scores_at_another_temperature_or_of_another_lm_are_no_comparison() -> None:
    for model in (ModelSpec(temperature=1.0), ModelSpec("teacher")):
        evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40), 0.8, model)])
        assert clear_winner(evidence, 0, {}) is None


def test_rows_that_a_program_learnt_from_say_nothing() -> None:
    evidence = Evidence([*scored(0, range(40), 0.2), *scored(1, range(40), 0.8)])
    winner = clear_winner(evidence, 0, {1: {3, 4}})
    assert winner is not None
    assert winner.examples == 38
    assert clear_winner(evidence, 0, {1: set(range(30))}) is None


def test_without_scores_nobody_wins() -> None:
    assert clear_winner(Evidence(), 0, {}) is None
