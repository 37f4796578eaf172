"""A budget counts every call, and lets none be sent that would pass it."""

from __future__ import annotations

import pytest

from simba_actors.errors import BudgetReachedError
from simba_actors.lm.budget import Budget, BudgetTracker
from simba_actors.search.trajectory import Usage
from simba_actors.store.records import Spending


def test_a_call_is_not_sent_that_would_pass_a_cap_by_what_calls_used_on_average() -> None:
    tracker = BudgetTracker(Budget(max_tokens=1_000))
    for _ in range(3):
        tracker.before_blocking_call()
        tracker.answered(250, 50, None)
    with pytest.raises(BudgetReachedError, match="max_tokens=1000 is reached"):
        tracker.before_blocking_call()


def test_what_earlier_lives_used_counts() -> None:
    tracker = BudgetTracker(Budget(max_cost=1.0))
    tracker.restore(Spending(calls=10, tokens=300, cost=0.95), Usage(8, 100, 100, 0.5))
    with pytest.raises(BudgetReachedError, match="max_cost=1 is reached"):
        tracker.before_blocking_call()


def test_a_reply_from_the_cache_uses_nothing() -> None:
    tracker = BudgetTracker(Budget(max_tokens=100))
    tracker.answered(None, None, None)
    assert tracker.spent == Usage()


async def test_a_call_is_stored_before_it_is_sent() -> None:
    stored: list[int] = []

    async def reserve() -> None:
        stored.append(tracker.calls)

    tracker = BudgetTracker(Budget(max_calls=2), reserve)
    await tracker.before_call()
    assert stored == [1]


def test_a_clock_that_is_stopped_counts_no_time() -> None:
    now = [0.0]
    tracker = BudgetTracker(Budget(), clock=lambda: now[0])
    tracker.start_clock()
    now[0] = 2.0
    tracker.stop_clock()
    now[0] = 5.0
    assert tracker.seconds == 2.0
