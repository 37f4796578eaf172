"""Differences between JSON values."""

from __future__ import annotations

import json
import random

from simba_actors.search.rollout import JSON
from simba_actors.store.differences import difference, with_difference

LEAVES: tuple[JSON, ...] = (None, True, 1, 1.0, 0.5, "", "a")
KEYS = ("a", "b", "/", "~1", "")


def value(draws: random.Random, depth: int = 3) -> JSON:
    kind = draws.randrange(4) if depth else 0
    if kind == 0:
        return draws.choice(LEAVES)
    if kind == 1:
        return [value(draws, depth - 1) for _ in range(draws.randrange(3))]
    return {key: value(draws, depth - 1) for key in draws.sample(KEYS, draws.randrange(len(KEYS)))}


def test_a_difference_restores_the_later_value_with_its_types_and_order() -> None:
    draws = random.Random(0)
    for _ in range(1_000):
        before, after = value(draws), value(draws)
        as_before = json.dumps(before)
        changes = json.loads(json.dumps(difference(before, after)))
        assert json.dumps(with_difference(before, changes)) == json.dumps(after)
        assert json.dumps(before) == as_before


def test_a_difference_has_only_what_changed() -> None:
    before: JSON = {"mode": {"parts": {"a": [1.0], "b": [2.0]}}, "order": [1, 2]}
    after: JSON = {"mode": {"parts": {"b": [2.5], "c": [3.0]}}, "order": [1, 2]}
    assert difference(before, after) == {
        "set": {"/mode/parts/b": [2.5], "/mode/parts/c": [3.0]},
        "remove": ["/mode/parts/a"],
    }
