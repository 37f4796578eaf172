"""A run's randomness as it is stored."""

from __future__ import annotations

import json
from typing import Any

from simba_actors.search.randomness import Draws


def stored(draws: Draws) -> Any:
    return json.loads(json.dumps(draws.to_json()))


def next_of(draws: Draws) -> tuple[float, float]:
    return draws.python.random(), float(draws.numpy.random())


def test_restored_draws_continue_where_they_were_stored() -> None:
    draws = Draws(7)
    next_of(draws)
    assert next_of(Draws.from_json(stored(draws))) == next_of(draws)


def test_draws_that_an_earlier_version_stored_as_numbers_continue_too() -> None:
    draws = Draws(7)
    version, internal, gauss = draws.python.getstate()
    before = {**stored(draws), "python": [version, list(internal), gauss]}
    assert next_of(Draws.from_json(before)) == next_of(draws)


def test_the_states_of_both_generators_take_less_than_4_kilobytes() -> None:
    assert len(json.dumps(stored(Draws(7)))) < 4_000
