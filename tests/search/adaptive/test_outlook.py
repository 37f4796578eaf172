"""The gain that is expected of more rollouts."""

from __future__ import annotations

import numpy as np
import pytest

from simba_actors.search.adaptive.outlook import outlook_of
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.quality import Outlook
from simba_actors.search.rollout import RolloutKey
from simba_actors.search.settings import Caps
from tests.search.model.texts import examples_of

ROWS = tuple(f"row {n} about {'rivers' if n % 2 else 'violins'}" for n in range(40))
RULES = tuple(Part(f"rule {n}", "self", "rule", f"advice {n}") for n in range(20))
CAPS = Caps(demos=4, rules=12)


def outlook(effect: float, scores: int, left: int = 2_000, base: float = 0.0, width: float = 1.0) -> Outlook:
    """Return the outlook for 60 programs with some of 20 rules each, which add between -`effect` and `effect`."""
    draws = np.random.default_rng(0)
    programs: dict[int, tuple[Part, ...]] = {0: ()}
    known: list[Score] = []
    for program in range(60):
        chosen = draws.choice(len(RULES), program % 8, replace=False)
        programs[program] = tuple(RULES[n] for n in chosen)
        right = 1 / (1 + np.exp(-base - effect * (chosen / 10 - 1).sum()))
        for n in range(scores // len(programs)):
            key = RolloutKey(0, "evaluate", program * 1_000 + n)
            known.append(Score(key, program, n % 40, width * float(draws.random() < right)))
    model = PartModel(programs, Evidence(known).student_scores(), examples_of(ROWS))
    found = outlook_of(model, CAPS, len(known), left, 60, 40 if left else 0, np.random.default_rng(0))
    assert found is not None
    return found


def test_much_is_expected_while_little_is_known() -> None:
    assert outlook(effect=0.0, scores=60).share > 0.05


def test_little_is_expected_once_no_part_does_anything() -> None:
    assert outlook(effect=0.0, scores=6_000).share < 0.01


def test_more_is_expected_where_parts_do_much() -> None:
    assert outlook(effect=1.0, scores=600).share > 2 * outlook(effect=0.0, scores=600).share


def test_nothing_is_expected_where_every_score_is_the_highest() -> None:
    assert outlook(effect=0.0, scores=600, base=9.0).share < 0.01


def test_nothing_is_expected_of_no_rollouts() -> None:
    assert outlook(effect=1.0, scores=600, left=0).gain == 0.0


def test_the_gain_is_in_the_units_of_the_metric() -> None:
    found = outlook(effect=1.0, scores=600, width=10.0)
    assert found.gain == pytest.approx(10 * found.share)


def test_there_is_none_before_the_first_score() -> None:
    model = PartModel({0: ()}, Evidence().student_scores(), examples_of(ROWS))
    assert outlook_of(model, CAPS, 0, 100, 10, 5, np.random.default_rng(0)) is None


def test_a_student_without_any_part_may_gain_what_it_lacks() -> None:
    scores = [Score(RolloutKey(0, "sample", n), 0, n, float(n % 2)) for n in range(40)]
    model = PartModel({0: ()}, Evidence(scores).student_scores(), examples_of(ROWS))
    found = outlook_of(model, CAPS, 40, 100, 10, 5, np.random.default_rng(0))
    assert found is not None
    assert found.share == pytest.approx(0.5, abs=0.1)
