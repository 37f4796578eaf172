"""What the evidence says about parts, and about programs made of them."""

from __future__ import annotations

import numpy as np
import pytest

from simba_actors.search.adaptive.combination import best_combinations
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.effects import ScoreRange
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.rollout import ModelSpec, RolloutKey
from simba_actors.search.settings import Caps
from simba_actors.search.statistics.mixed_model import sigmoid
from tests.search.model.texts import examples_of

ROWS = tuple(f"row {n} about {'rivers' if n % 2 else 'violins'}" for n in range(40))
GOOD = Part("good", "self", "rule", "be careful")
BAD = Part("bad", "self", "rule", "be hasty")
RIVERS = Part("rivers", "self", "rule", "for rivers, look at the map")
PROGRAMS = {0: (), 1: (GOOD,), 2: (BAD,), 3: (RIVERS,), 4: (GOOD, BAD), 5: (GOOD, RIVERS)}


def chance(parts: tuple[Part, ...], row: int) -> float:
    log_odds = 1.5 * (GOOD in parts) - 1.5 * (BAD in parts) + 3.0 * (RIVERS in parts and row % 2 == 1)
    return 1 / (1 + np.exp(0.5 - log_odds))


def evidence(low: float = 0.0, high: float = 1.0) -> Evidence:
    draws = np.random.default_rng(0)
    scores: list[Score] = []
    for program, parts in PROGRAMS.items():
        for n in range(160):
            key = RolloutKey(0, "evaluate", program * 1_000 + n)
            score = high if draws.random() < chance(parts, n % 40) else low
            scores.append(Score(key, program, n % 40, score))
    return Evidence(scores)


def model_of(known: Evidence) -> PartModel:
    return PartModel(PROGRAMS, known.student_scores(), examples_of(ROWS))


def test_programs_are_ranked_by_what_their_parts_are_worth() -> None:
    model = model_of(evidence())
    qualities = model.qualities
    ranked = sorted(PROGRAMS, key=lambda program: qualities[program])
    assert (ranked[0], ranked[-1]) == (2, 5)


def test_a_part_that_is_about_some_examples_is_credited_there() -> None:
    model = model_of(evidence())
    on_rows = model.likely.of([model.parts.index(RIVERS)])[0]
    assert on_rows[1::2].mean() > 1.0 > abs(on_rows[0::2].mean())


def test_the_best_combination_has_the_parts_that_help_and_no_other() -> None:
    model = model_of(evidence())
    [places] = best_combinations(model, [model.likely], range(3), Caps(demos=4, rules=12))
    assert {model.parts[place] for place in places} == {GOOD, RIVERS}


def test_parts_that_cost_more_by_the_crowd_they_make_than_they_add_are_left_out() -> None:
    """Ten rules that each add 0.4 to the log-odds, of which each beyond the fourth costs 0.8."""
    rules = tuple(Part(f"rule {n}", "self", "rule", f"advice {n}") for n in range(10))
    draws = np.random.default_rng(0)
    programs: dict[int, tuple[Part, ...]] = {}
    scores: list[Score] = []
    for program in range(60):
        size = program % 10 + 1
        programs[program] = tuple(rules[n] for n in sorted(draws.choice(10, size, replace=False)))
        right = 1 / (1 + np.exp(1.0 - 0.4 * size + 0.8 * max(0, size - 4)))
        for n in range(40):
            key = RolloutKey(0, "evaluate", program * 1_000 + n)
            scores.append(Score(key, program, n, float(draws.random() < right)))
    model = PartModel(programs, Evidence(scores).student_scores(), examples_of(ROWS))
    [places] = best_combinations(model, [model.likely], range(10), Caps(demos=4, rules=12))
    assert 3 <= len(places) <= 6


def test_combinations_that_are_found_side_by_side_are_those_found_alone() -> None:
    model, draws, caps = model_of(evidence()), np.random.default_rng(0), Caps(demos=4, rules=2)
    possible = [model.draw(draws, 3.0) for _ in range(20)]
    together = best_combinations(model, possible, range(3), caps)
    assert together == [best_combinations(model, [effects], range(3), caps)[0] for effects in possible]
    assert len(set(together)) > 1


def test_a_combination_keeps_to_the_caps() -> None:
    model = model_of(evidence())
    assert len(best_combinations(model, [model.likely], range(3), Caps(demos=4, rules=1))[0]) == 1


@pytest.mark.parametrize(("low", "high"), [(-50.0, 250.0), (0.0, 1.0)])
def test_scores_of_any_range_give_the_same_ranking(low: float, high: float) -> None:
    model = model_of(evidence(low, high))
    assert model.range == ScoreRange(low, high)
    qualities = model.qualities
    assert max(PROGRAMS, key=lambda program: qualities[program]) == 5


@pytest.mark.parametrize("score", [5.0, 1e8, -1e18])
def test_a_range_of_equal_scores_beyond_the_unit_has_a_width(score: float) -> None:
    assert ScoreRange.of([score, score]).to_unit(score) == 0.0


def test_a_teachers_scores_are_no_evidence_of_the_student() -> None:
    known = evidence()
    before = model_of(known).qualities[0]
    teacher = ModelSpec("teacher", rollout_id=1)
    known.add(Score(RolloutKey(1, "sample", n), 0, n % 40, 1.0, teacher) for n in range(200))
    assert model_of(known).qualities[0] == before


LABELS = ({"topic": "rivers"}, {"topic": "violins"})
A_RIVER = Part("a river", "self", "demo", "the Nile: rivers", {"text": "the Nile", "topic": "rivers"})
A_VIOLIN = Part("a violin", "self", "demo", "a fiddle: violins", {"text": "a fiddle", "topic": "violins"})
ANOTHER_VIOLIN = Part("another violin", "self", "demo", "a viola: violins", {"text": "a viola", "topic": "violins"})


def test_what_demos_do_for_examples_of_the_same_answer_is_learned_from_other_demos() -> None:
    """The second violin was never tried, and shares no word with any row."""
    rows = [f"row {n}" for n in range(40)]
    draws = np.random.default_rng(0)
    scores = [
        Score(RolloutKey(0, "evaluate", n), program, n % 40, float(draws.random() < right))
        for program in (1, 2)
        for n in range(program * 400, program * 400 + 400)
        for right in [0.8 if n % 2 == program - 1 else 0.2]
    ]
    programs = {1: (A_RIVER,), 2: (A_VIOLIN,), 3: (ANOTHER_VIOLIN,)}
    labels = [LABELS[n % 2] for n in range(40)]
    model = PartModel(programs, Evidence(scores).student_scores(), examples_of(rows, labels))
    chances = sigmoid(model.log_odds_of([model.parts.index(ANOTHER_VIOLIN)], model.likely))
    assert chances[1::2].mean() > chances[0::2].mean() + 0.3


def test_many_demos_may_be_worth_more_together_than_one_by_one() -> None:
    demos = [Part(f"demo {n}", "self", "demo", f"shown {n}") for n in range(8)]
    programs = {0: (), 1: tuple(demos[:1]), 2: tuple(demos[:4]), 3: tuple(demos)}
    model = PartModel(programs, Evidence([]).student_scores(), examples_of(ROWS))
    none, one, few, many = (model.own_effect(program)[1] for program in programs)
    assert none == one < few < many


def test_qualities_drawn_at_no_scale_are_the_likely_ones() -> None:
    model = model_of(evidence())
    assert model.drawn_qualities(np.random.default_rng(0), 0.0) == model.qualities


def test_the_more_a_program_was_tried_the_closer_are_draws_of_its_quality() -> None:
    scores = [Score(RolloutKey(0, "evaluate", n), 0, n % 40, float(n % 2)) for n in range(800)]
    model = PartModel({0: (), 1: ()}, Evidence(scores).student_scores(), examples_of(ROWS))
    draws = np.random.default_rng(0)
    drawn = [model.drawn_qualities(draws, 1.0) for _ in range(100)]
    assert np.std([each[0] for each in drawn]) < np.std([each[1] for each in drawn])


def test_a_program_that_was_tried_more_often_is_known_better() -> None:
    scores = [Score(RolloutKey(0, "evaluate", n), 0, n % 40, float(n % 2)) for n in range(800)]
    model = PartModel({0: (), 1: (GOOD,)}, Evidence(scores).student_scores(), examples_of(ROWS))
    assert model.deviation(0) < model.deviation(1)


def test_a_difference_is_that_of_qualities_and_no_surer_than_what_the_programs_do_not_share() -> None:
    model = model_of(evidence())
    gain, deviation = model.difference(4, 2)
    assert gain == pytest.approx(model.qualities[4] - model.qualities[2])
    assert 0 < deviation < 0.1 < gain
    assert model.difference(2, 2)[0] == 0


def test_a_combination_shows_each_answer_where_none_is_given_that_is_not_shown() -> None:
    """More demos with the same answer don't make it more likely."""
    demos = [Part(f"demo {n}", "self", "demo", f"shown {n}", {"topic": LABELS[n % 2]["topic"]}) for n in range(8)]
    programs: dict[int, tuple[Part, ...]] = {0: (), 1: tuple(demos[0::2]), 2: tuple(demos[1::2]), 3: (demos[0],)}
    scores = [
        Score(RolloutKey(0, "evaluate", 40 * program + n), program, n, float(LABELS[n % 2]["topic"] in topics))
        for program, demos in programs.items()
        for topics in [{demo.fields["topic"] for demo in demos}]
        for n in range(40)
    ]
    labels = [LABELS[n % 2] for n in range(40)]
    rows = [f"row {n}" for n in range(40)]
    model = PartModel(programs, Evidence(scores).student_scores(), examples_of(rows, labels))
    [places] = best_combinations(model, [model.likely], range(8), Caps(demos=2, rules=0))
    assert {model.parts[place].fields["topic"] for place in places} == {"rivers", "violins"}
