"""What is learned about the order of answers, and the order that demos get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pytest

from simba_actors.search.adaptive.combination import best_combinations
from simba_actors.search.adaptive.exploration import Exploration
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.answer_order import POSITIONS, AnswerOrder
from simba_actors.search.model.answers import Answers
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.model.parts_held import PartsHeld
from simba_actors.search.rollout import RolloutKey
from simba_actors.search.settings import Caps
from simba_actors.search.statistics.mixed_model import sigmoid
from tests.search.model.texts import examples_of

TOPICS = ("rivers", "violins")
ROWS = tuple(f"row {n}" for n in range(40))
LABELS = [{"topic": TOPICS[n % 2]} for n in range(40)]
ANSWERS = Answers(LABELS)


def demo(name: str, topic: str) -> Part:
    return Part(name, "self", "demo", f"{name}: {topic}", {"text": name, "topic": topic})


RIVERS = tuple(demo(name, "rivers") for name in ("the Nile", "the Po", "the Ob"))
VIOLINS = tuple(demo(name, "violins") for name in ("a fiddle", "a viola", "a rebec"))
ADVICE = Part("advice", "self", "rule", "be careful")


def model_of(programs: Sequence[Sequence[Part]], chance: Callable[[Sequence[Part], str], float]) -> PartModel:
    """Return the model of a run in which each program ran three times on each row, right with a chance by topic."""
    draws = np.random.default_rng(0)
    scores = [
        Score(RolloutKey(0, "evaluate", number * 1_000 + n), number, n % 40, float(draws.random() < right))
        for number, parts in enumerate(programs)
        for n in range(120)
        for right in [chance(parts, TOPICS[n % 2])]
    ]
    return PartModel(dict(enumerate(programs)), Evidence(scores).student_scores(), examples_of(ROWS, LABELS))


def the_last_answer_is_given(parts: Sequence[Part], topic: str) -> float:
    return 0.9 if parts and parts[-1].fields["topic"] == topic else 0.4


def nothing_matters(parts: Sequence[Part], topic: str) -> float:
    return 0.5


def logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


PAIRS = [pair for one in RIVERS for other in VIOLINS for pair in ((one, other), (other, one))]


def test_positions_are_counted_from_the_last_demo_of_a_predictor() -> None:
    other = Part("other", "another", "demo", "x", {"topic": "rivers"})
    places = [0, 1, 2, 4, 3]
    order = AnswerOrder([ADVICE, *RIVERS, other], ANSWERS, PartsHeld.of([places]))
    assert dict(order.positions(places)) == {1: 2, 2: 1, 3: 0, 4: 0}


def test_demos_before_the_last_few_have_no_position() -> None:
    places = [0] * (POSITIONS + 2)
    order = AnswerOrder([RIVERS[0]], ANSWERS, PartsHeld.of([places]))
    assert [index for index, _ in order.positions(places)] == list(range(POSITIONS + 1, 1, -1))


def test_each_answer_in_each_position_has_a_column_for_the_same_answer_and_one_for_another() -> None:
    order = AnswerOrder([RIVERS[0], VIOLINS[0]], ANSWERS, PartsHeld.of([[0, 1]]))
    design = order.design(np.array([order.placement([0, 1])]), np.array([1]))
    assert design.shape == (1, 2 * 4)
    assert np.flatnonzero(design).tolist() == [2, 5]  # Last a violin: the same answer. Before it a river: another.


def test_the_slope_of_a_prompt_is_the_weighted_sum_of_its_columns() -> None:
    order = AnswerOrder([RIVERS[0], VIOLINS[0]], ANSWERS, PartsHeld.of([[0, 1]]))
    placement, weight = order.placement([0, 1]), np.random.default_rng(0).random(40)
    design = order.design(np.tile(placement, (40, 1)), np.arange(40))
    assert order.slope(placement, weight) == pytest.approx(weight @ design)


def test_the_order_of_very_many_answers_is_left_out() -> None:
    many = Answers([{"topic": str(n % 80)} for n in range(400)])
    assert AnswerOrder([demo("x", "1")], many, PartsHeld.of([[0]])).columns == 0


def test_order_matters_where_the_scores_say_so() -> None:
    assert model_of(PAIRS, the_last_answer_is_given).order_matters


def test_order_does_not_matter_where_the_scores_do_not_say_so() -> None:
    assert not model_of(PAIRS, nothing_matters).order_matters


def test_what_an_order_is_worth_is_known_of_demos_that_were_never_in_it() -> None:
    new = demo("the Don", "rivers")
    model = model_of([*PAIRS, (new,)], the_last_answer_is_given)
    place = {part: n for n, part in enumerate(model.parts)}
    chances = sigmoid(model.log_odds_of([place[VIOLINS[0]], place[new]], model.likely))
    assert chances[0::2].mean() > chances[1::2].mean() + 0.2


def test_standings_of_many_programs_are_those_of_each() -> None:
    other = Part("other", "another", "demo", "x", {"topic": "rivers"})
    programs = [[0, 1, 2, 4, 3], [], [4, 1, 5, 2], [0]]
    held = PartsHeld.of(programs)
    order = AnswerOrder([ADVICE, *RIVERS, other, VIOLINS[0]], ANSWERS, held)
    assert np.array_equal(order.placements, [order.placement(places) for places in programs])


@pytest.mark.parametrize("chance", [the_last_answer_is_given, nothing_matters])
def test_a_deviation_is_that_of_scores_under_draws(chance: Callable[[Sequence[Part], str], float]) -> None:
    """This holds with and without effects of the order. The rows call for the answers of the programs' demos."""
    model = model_of(PAIRS, chance)
    program, draws = 2, np.random.default_rng(1)
    own, deviation = model.own_effect(program)
    drawn = [
        logit(sigmoid(model.log_odds_of(model.programs[program], model.draw(draws, 1.0)) + own_drawn).mean())
        for own_drawn in draws.normal(own, deviation, 400)
    ]
    assert model.deviation(program) == pytest.approx(np.std(drawn), rel=0.2)


@pytest.mark.parametrize("good", TOPICS)
def test_demos_are_put_in_the_order_that_is_best(good: str) -> None:
    """Everything is right if one answer is last, and nothing if the other is."""
    model = model_of(PAIRS, lambda parts, _: 0.9 if parts[-1].fields["topic"] == good else 0.1)
    [places] = best_combinations(model, [model.likely], range(len(model.parts)), Caps(demos=2, rules=0))
    assert model.parts[places[-1]].fields["topic"] == good


def test_the_same_demos_in_another_order_are_another_combination_where_order_matters() -> None:
    missing = (VIOLINS[0], RIVERS[0])
    model = model_of(
        [pair for pair in permutations([*RIVERS, *VIOLINS], 2) if pair != missing],
        lambda parts, _: 0.9 if parts[-1].fields["topic"] == "rivers" else 0.1,
    )
    tried = Exploration(model, np.random.default_rng(0), Caps(demos=2, rules=0)).untried(80)
    assert tuple(part.part_id for part in missing) in tried


def test_positions_that_no_program_has_a_demo_in_have_no_columns() -> None:
    assert AnswerOrder(RIVERS, ANSWERS, PartsHeld.of([[], [0], [2, 1]])).columns == 2 * 4
