"""The usage that providers report for a call is counted as far as it is plausible."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simba_actors.lm.usage import Meter, was_cut_off
from simba_actors.search.rollout import Usage


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 2}, "cost": 0.5}, Usage(1, 3, 2, 0.5)),
        ({"usage": {"input_tokens": 3, "output_tokens": 2.0}, "cost": 0}, Usage(1, 3, 2, 0.0)),
        ({"usage": {"prompt_tokens": 2**63, "completion_tokens": 2}, "cost": 0.5}, Usage(1, None, 2, 0.5)),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 2}, "cost": float("nan")}, Usage(1, None, 2, None)),
        ({"usage": {"prompt_tokens": "many", "completion_tokens": 2}, "cost": "cheap"}, Usage(1, None, 2, None)),
        (
            {"usage": {"prompt_tokens": np.int64(3), "completion_tokens": np.float32(2)}, "cost": Decimal("0.5")},
            Usage(1, 3, 2, 0.5),
        ),
        (
            {"usage": {"prompt_tokens": 3, "completion_tokens": 10**400}, "cost": Decimal("snan")},
            Usage(1, 3, None, None),
        ),
        ({"usage": ["?"], "cost": 0.5}, Usage(1, None, None, None)),
        ({"usage": None}, Usage(1, None, None, None)),
    ],
)
def test_what_makes_no_sense_is_unknown(entry: dict[str, Any], expected: Usage) -> None:
    meter = Meter()
    meter.sent()
    meter.report(entry)
    meter.answered()
    assert meter.total == expected


def test_a_call_that_was_sent_and_that_the_cache_has_answered_is_none() -> None:
    meter = Meter()
    meter.sent()
    meter.report({"usage": {}, "response": SimpleNamespace(usage=SimpleNamespace(input_tokens=3, output_tokens=2))})
    meter.answered()
    assert meter.total == Usage()


def test_a_reply_without_any_usage_is_not_taken_for_a_cached_one() -> None:
    meter = Meter()
    meter.sent()
    meter.report({"usage": {}, "response": SimpleNamespace(usage=SimpleNamespace(input_tokens=None))})
    meter.answered()
    assert meter.total == Usage(1, None, None, None)


@pytest.mark.parametrize(
    ("reason", "cut_off"),
    [("length", True), ("max_tokens", True), ("MAX_TOKENS", True), ("stop", False), ("end_turn", False), (None, False)],
)
def test_a_reply_that_was_cut_off_is_known_by_any_providers_word(reason: str | None, cut_off: bool) -> None:
    reply = SimpleNamespace(choices=[SimpleNamespace(finish_reason=reason)])
    assert was_cut_off({"response": reply}) is cut_off
