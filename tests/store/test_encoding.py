"""Values of students and LMs are stored, whatever they are."""

from __future__ import annotations

from typing import Any

import pytest

from simba_actors.search.rollout import Outcome, Trajectory
from simba_actors.store.encoding import dumps, loads, result_row


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"error": "half a pair: \ud83d"}, {"error": "half a pair: \\ud83d"}),
        (["\U0001f642", "\ud83d"], ["\U0001f642", "\\ud83d"]),
        ({"tokens": 2**70}, {"tokens": str(2**70)}),
    ],
)
def test_values_that_json_can_not_hold_become_text(value: Any, stored: Any) -> None:
    assert loads(dumps(value)) == stored


def test_an_error_of_any_text_is_stored_with_its_rollout() -> None:
    payload = result_row(Trajectory(Outcome.PROGRAM_FAILURE, 0.0, None, (), error="half a pair: \ud83d"), {})[-1]
    assert loads(payload)["error"] == "half a pair: \\ud83d"
