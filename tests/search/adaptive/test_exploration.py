"""Which combinations of demos are tried, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simba_actors.search.adaptive.exploration import Exploration
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.rollout import RolloutKey
from simba_actors.search.settings import Caps
from tests.search.model.texts import examples_of

EXAMPLES = tuple(f"example {n}" for n in range(40))
DEMOS = tuple(Part(f"demo {n}", "self", "demo", f"shown {n}", {"text": f"shown {n}"}) for n in range(12))
LUCKY = (DEMOS[5], DEMOS[0], DEMOS[3], DEMOS[2], DEMOS[4], DEMOS[1])
"""An order in which these demos help a lot, while they don't in any other."""


def exploration(draws: np.random.Generator, shares_right: Sequence[tuple[tuple[Part, ...], float]]) -> Exploration:
    """Explore a run in which programs with these demos were right on that share of all examples."""
    programs = {number: demos for number, (demos, _) in enumerate(shares_right)}
    scores = [
        Score(RolloutKey(0, "evaluate", number * 1_000 + n), number, n, float(n < right * len(EXAMPLES)))
        for number, (_, right) in enumerate(shares_right)
        for n in range(len(EXAMPLES))
    ]
    model = PartModel(programs, Evidence(scores).student_scores(), examples_of(EXAMPLES))
    return Exploration(model, draws, Caps(demos=6, rules=0))


def test_a_program_that_is_good_in_one_order_only_is_varied_by_replacing_one_demo() -> None:
    others = [(tuple(reversed(LUCKY)), 0.1), (LUCKY[3:] + LUCKY[:3], 0.1), (DEMOS[6:], 0.2), ((), 0.2)]
    tried = exploration(np.random.default_rng(0), [(LUCKY, 0.9), *others]).untried(30)
    kept = [sum(part_id == part.part_id for part_id, part in zip(one, LUCKY, strict=False)) for one in tried]
    assert kept.count(len(LUCKY) - 1) >= 10


def test_the_same_demos_are_tried_in_different_orders() -> None:
    demos = DEMOS[:4]
    made = exploration(np.random.default_rng(0), [(demos, 0.9), ((), 0.1)])
    orders = {order for order in made.bases(20) if len(order) == len(demos)}
    assert len(orders) > 5


def test_a_base_has_room_for_one_more_demo() -> None:
    made = exploration(np.random.default_rng(0), [(DEMOS[:8], 0.9), ((), 0.1)])
    assert max(map(len, made.bases(20))) == 5


def test_a_combination_in_flight_with_a_part_that_the_model_left_out_is_ignored() -> None:
    model = PartModel({0: (), 1: DEMOS[:2]}, Evidence().student_scores(), examples_of(EXAMPLES))
    in_flight = [(DEMOS[0].part_id, "left out"), (DEMOS[1].part_id,)]
    made = Exploration(model, np.random.default_rng(0), Caps(demos=6, rules=0), in_flight)
    assert (DEMOS[1].part_id,) not in made.untried(4)
