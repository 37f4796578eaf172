"""How much parts matter, and the probability that one program beats another."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.effects import RULES as RULES_COLUMN
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.model.scales import beliefs_of, chance_to_be_sure, chance_to_beat
from simba_actors.search.rollout import RolloutKey
from tests.search.model.texts import examples_of

ROWS = tuple(f"row {n}" for n in range(40))
RULES = tuple(Part(f"rule {n}", "self", "rule", f"advice {n}") for n in range(30))


def model_where(effect: float, scores: int = 40) -> PartModel:
    """Return a model of the student and 60 programs with two rules each, which add between -`effect` and `effect`."""
    draws = np.random.default_rng(1)
    programs: dict[int, tuple[Part, ...]] = {0: ()}
    known: list[Score] = []
    for program in range(61):
        chosen = [(7 * program) % 30, (7 * program + 1 + program % 5) % 30] if program else []
        programs[program] = tuple(RULES[n] for n in chosen)
        right = 1 / (1 + np.exp(-effect * sum(n / 15 - 1 for n in chosen)))
        for n in range(scores):
            score = float(draws.random() < right)
            known.append(Score(RolloutKey(0, "evaluate", program * 1_000 + n), program, n, score))
    return PartModel(programs, Evidence(known).student_scores(), examples_of(ROWS))


def usual_scale(model: PartModel) -> float:
    return sum(belief.weight * belief.scale for belief in beliefs_of(model))


def test_the_scale_is_small_where_no_part_does_anything() -> None:
    assert usual_scale(model_where(effect=0.0)) < 0.5 * usual_scale(model_where(effect=1.5))


def test_where_no_part_does_anything_their_number_may_be_believed_not_to_either() -> None:
    least = min(beliefs_of(model_where(effect=0.0), of_any_part=1.0), key=lambda belief: belief.scale)
    assert abs(least.mean[RULES_COLUMN]) < 0.02


def test_the_likely_scales_have_all_of_the_weight() -> None:
    assert sum(belief.weight for belief in beliefs_of(model_where(effect=0.5))) == pytest.approx(1.0)


def test_more_rollouts_may_make_sure_of_a_program_that_seems_better_and_not_of_one_that_does_not() -> None:
    model = model_where(effect=1.0, scores=8)
    beliefs, ranked = beliefs_of(model), sorted(model.qualities, key=model.qualities.__getitem__)
    worst, best = (chance_to_be_sure(model, beliefs, program, 0, 0.9, 100) for program in (ranked[0], ranked[-1]))
    assert worst < 0.01 < 0.1 < best
    assert chance_to_be_sure(model, beliefs, 0, 0, 0.9, 100) == 0.0


def test_the_luckiest_program_is_less_sure_to_be_better_where_no_part_does_anything() -> None:
    model = model_where(effect=0.0)
    best = max(model.qualities, key=model.qualities.__getitem__)
    gain, deviation = model.difference(best, 0)
    assert chance_to_beat(model, beliefs_of(model), best, 0) < NormalDist().cdf(gain / deviation)


def test_a_program_that_is_much_better_is_sure_to_be() -> None:
    model = model_where(effect=1.5)
    best = max(model.qualities, key=model.qualities.__getitem__)
    assert chance_to_beat(model, beliefs_of(model), best, 0) > 0.95


def test_no_program_beats_itself() -> None:
    model = model_where(effect=0.5, scores=2)
    assert chance_to_beat(model, beliefs_of(model), 1, 1) == 0.0


def test_the_chances_of_two_programs_to_beat_each_other_add_up_to_one() -> None:
    model = model_where(effect=0.5, scores=4)
    beliefs = beliefs_of(model)
    assert chance_to_beat(model, beliefs, 1, 2) + chance_to_beat(model, beliefs, 2, 1) == pytest.approx(1.0)


def test_the_student_alone_has_one_belief() -> None:
    scores = [Score(RolloutKey(0, "sample", n), 0, n, 1.0) for n in range(4)]
    assert len(beliefs_of(PartModel({0: ()}, Evidence(scores).student_scores(), examples_of(ROWS)))) == 1
