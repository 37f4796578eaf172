"""A policy that is restored from the store continues as if it had never stopped."""

from __future__ import annotations

import numpy as np
import pytest

from simba_actors.search.adaptive import policy
from simba_actors.search.model import fitting, part_fit
from tests.search.adaptive.simulation import World, run


def effect(draws: np.random.Generator) -> float:
    return draws.normal(0.0, 0.5)


@pytest.mark.parametrize(
    ("active", "at_once", "most_scores"),
    [
        (part_fit.ACTIVE, 1, 500),
        (5, 1, 500),
        (part_fit.ACTIVE, 3, 500),
        (part_fit.ACTIVE, 1, 200),
        (part_fit.ACTIVE, 3, 30),
    ],
)
def test_a_resumed_run_makes_the_same_programs_expects_the_same_and_has_the_same_winner(
    active: int, at_once: int, most_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all parts fitted, most of them settled, several steps open at a time, and most scores left out of fits."""
    monkeypatch.setattr(part_fit, "ACTIVE", active)
    monkeypatch.setattr(fitting, "MOST_SCORES", most_scores)
    monkeypatch.setattr(fitting, "STEPS_FITTED", 1)
    monkeypatch.setattr(policy, "steps_at_once", lambda *_: at_once)
    straight, resumed = World(effect, seed=3), World(effect, seed=3)
    assert run(straight, 500) == run(resumed, 500, resumed=True)
    assert straight.parts_of == resumed.parts_of
    assert len(straight.parts_of) > 20
