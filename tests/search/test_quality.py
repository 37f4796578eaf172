"""The best program's mean and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.quality import Quality, best_by_batch, best_by_model
from simba_actors.search.rollout import RolloutKey
from tests.search.model.texts import examples_of

ROWS = tuple(f"row {n}" for n in range(60))
RULES = tuple(Part(f"rule {n}", "self", "rule", f"rule number {n}") for n in range(10))
PROGRAMS = {0: (), **{n + 1: (rule,) for n, rule in enumerate(RULES)}}


def evaluated(program: int, scores: list[float]) -> list[Score]:
    return [Score(RolloutKey(0, "evaluate", program * 1_000 + n), program, n, score) for n, score in enumerate(scores)]


def equally_good(seed: int, count: int = 32) -> Evidence:
    """Return scores of ten programs and the student, each right on half of the examples: the best mean is luck."""
    draws = np.random.default_rng(seed)
    known = Evidence()
    for program in PROGRAMS:
        known.add(evaluated(program, [float(draws.random() < 0.5) for _ in range(count)]))
    return known


def by_model(known: Evidence) -> Quality:
    return best_by_model(PartModel(PROGRAMS, known.student_scores(), examples_of(ROWS)))


def test_the_interval_of_the_best_batch_allows_for_the_luck_of_the_best_of_many() -> None:
    found = [best_by_batch(equally_good(seed)) for seed in range(200)]
    assert np.mean([best.mean for best in found if best is not None]) > 0.6
    assert np.mean([best.low <= 0.5 <= best.high for best in found if best is not None]) > 0.95


def test_the_interval_of_the_best_by_the_model_allows_for_it_too() -> None:
    found = [by_model(equally_good(seed)) for seed in range(40)]
    assert np.mean([best.mean for best in found]) < 0.6
    assert np.mean([best.low <= 0.5 <= best.high for best in found]) > 0.9


def test_a_batch_without_a_failure_does_not_make_a_program_perfect() -> None:
    best = best_by_batch(Evidence(evaluated(1, [1.0] * 3)))
    assert best is not None
    assert best.mean == 1.0
    assert best.low < 0.5


def test_an_interval_stays_within_the_range_of_the_scores() -> None:
    best = best_by_batch(Evidence([*evaluated(1, [-50.0, 250.0] * 5), *evaluated(2, [-50.0] * 10)]))
    assert best is not None
    assert (best.program, best.mean) == (1, pytest.approx(100.0))
    assert -50.0 < best.low < 100.0 < best.high < 250.0


def test_without_candidates_nothing_is_known() -> None:
    assert best_by_batch(Evidence()) is None


def test_the_interval_does_not_change_from_one_look_to_the_next() -> None:
    assert by_model(equally_good(0)) == by_model(equally_good(0))
