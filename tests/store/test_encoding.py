"""Values of students and LMs are stored, whatever they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simba_actors.events import BucketsAnalyzed, Event, StepClosed, StrategyDeclined
from simba_actors.search.rollout import JSON, Outcome, Trajectory
from simba_actors.store.encoding import dumps, event_of, loads, result_row


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


OF_AN_EARLIER_VERSION: list[tuple[dict[str, JSON], Event]] = [
    (
        {"step": 1, "slot": 2, "strategy": "AppendARule", "reason": "no rule"},
        StrategyDeclined(1, 2, "AppendARule", "no rule"),
    ),
    ({"step": 1, "winner": 7, "score": 0.75, "baseline_score": 0.5}, StepClosed(1, 7, 0.75, sampled_mean=0.5)),
    (
        {"step": 1, "buckets": 4, "spread": 2, "baseline_score": 0.5, "p10": 0.0, "p90": 1.0},
        BucketsAnalyzed(1, 4, 2, sampled_mean=0.5, p10=0.0, p90=1.0),
    ),
]


@pytest.mark.parametrize(
    ("stored", "event"), OF_AN_EARLIER_VERSION, ids=[type(event).__name__ for _, event in OF_AN_EARLIER_VERSION]
)
def test_events_that_an_earlier_version_stored_are_read(stored: dict[str, JSON], event: Event) -> None:
    assert event_of("run", (3, 4.0, type(event).__name__, dumps(stored))) == replace(
        event, run_id="run", seq=3, time=4.0
    )


def test_an_event_of_a_kind_that_only_a_newer_version_knows_is_passed_by() -> None:
    assert event_of("run", (1, 0.0, "SomethingNew", "{}")) is None
