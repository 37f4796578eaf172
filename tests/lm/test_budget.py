"""A budget counts every call, and allows none that would exceed it."""

from __future__ import annotations

import asyncio
from itertools import count

import anyio.to_thread
import dspy
import pytest

from simba_actors.errors import BudgetReachedError
from simba_actors.lm.budget import Budget, BudgetTracker, CallSize, forecast
from simba_actors.search.rollout import Usage
from simba_actors.store.records import Spending
from tests.support.waiting import PATIENCE


def test_a_call_is_not_sent_that_would_pass_a_cap_by_what_calls_used_on_average() -> None:
    tracker = BudgetTracker(Budget(max_tokens=1_000))
    for _ in range(3):
        tracker.before_blocking_call()
        tracker.answered(250, 50, None)
    with pytest.raises(BudgetReachedError, match="max_tokens=1000 is reached"):
        tracker.before_blocking_call()


def test_the_first_call_is_estimated_by_its_prompt_and_the_limit_of_its_reply() -> None:
    tracker = BudgetTracker(Budget(max_tokens=1_000))
    tracker.before_blocking_call(CallSize(characters=2_000, max_tokens=400))
    with pytest.raises(BudgetReachedError, match="0 is used, and the next call is estimated at 1100"):
        tracker.before_blocking_call(CallSize(characters=2_800, max_tokens=400))


def test_a_longer_prompt_is_estimated_to_use_more_than_those_before() -> None:
    tracker = BudgetTracker(Budget(max_tokens=1_000))
    tracker.before_blocking_call(CallSize(characters=300))
    tracker.answered(100, 50, None, characters=300)
    tracker.before_blocking_call(CallSize(characters=1_200))
    with pytest.raises(BudgetReachedError, match="150 is used, and the next call is estimated at 1050"):
        tracker.before_blocking_call(CallSize(characters=3_000))


async def test_the_first_call_costs_what_the_models_price_says() -> None:
    tracker, lm = BudgetTracker(Budget(max_cost=0.001)), dspy.LM("openai/gpt-4o-mini", api_key="x")
    await tracker.before_call(CallSize(characters=4_000, max_tokens=1_000, lm=lm))
    with pytest.raises(BudgetReachedError, match=r"max_cost=0\.001 is reached: 0 is used"):
        await tracker.before_call(CallSize(characters=4_000, max_tokens=2_000, lm=lm))


async def test_a_model_without_a_known_price_is_called() -> None:
    tracker, lm = BudgetTracker(Budget(max_cost=0.001)), dspy.LM("nobody/knows-this", api_key="x")
    await tracker.before_call(CallSize(characters=4_000_000, max_tokens=1_000, lm=lm))
    assert tracker.calls == 1


async def test_a_price_is_looked_up_although_the_host_occupies_all_threads_of_anyio() -> None:
    tracker, lm = BudgetTracker(Budget(max_cost=0.001)), dspy.LM("openai/gpt-4o-mini", api_key="x")
    limiter = anyio.to_thread.current_default_thread_limiter()
    for call in range(int(limiter.total_tokens)):
        limiter.acquire_on_behalf_of_nowait(call)
    try:
        async with asyncio.timeout(PATIENCE):
            await tracker.before_call(CallSize(characters=4_000, max_tokens=1_000, lm=lm))
    finally:
        for call in range(int(limiter.total_tokens)):
            limiter.release_on_behalf_of(call)
    assert tracker.calls == 1


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


def test_the_cap_that_is_reached_first_bounds_the_whole_forecast() -> None:
    used = {"student": Usage(10, 1_000, 500, 0.01)}
    whole = forecast(used, 2.0, 10, 100, 8, Budget())
    assert (whole.calls, whole.tokens, whole.seconds) == (100, 15_000, 20.0)
    capped = forecast(used, 2.0, 10, 100, 8, Budget(max_tokens=7_500, max_calls=90))
    assert (capped.calls, capped.tokens, capped.cost, capped.seconds) == (50, 7_500, pytest.approx(0.05), 10.0)


async def test_a_call_waits_for_those_in_flight_that_may_use_what_is_left() -> None:
    looks, looked_often = count(1), asyncio.Event()

    def clock() -> float:
        if next(looks) == 5:
            looked_often.set()
        return 0.0

    tracker = BudgetTracker(Budget(max_tokens=100), clock=clock)
    size = CallSize(characters=40, max_tokens=50)  # Some 60 tokens.
    await tracker.before_call(size)
    second = asyncio.create_task(tracker.before_call(size))
    await asyncio.wait_for(looked_often.wait(), PATIENCE)
    assert (second.done(), tracker.calls) == (False, 1)
    tracker.answered(10, 5, None, 40)
    tracker.after_call(size)
    await asyncio.wait_for(second, PATIENCE)
    assert tracker.calls == 2


async def test_a_call_that_does_not_fit_is_refused_at_once_though_others_are_in_flight() -> None:
    tracker = BudgetTracker(Budget(max_tokens=100))
    await tracker.before_call(CallSize(characters=40, max_tokens=50))
    with pytest.raises(BudgetReachedError):
        await asyncio.wait_for(tracker.before_call(CallSize(characters=4000)), PATIENCE)


def test_requests_that_were_counted_ahead_and_not_sent_are_given_back() -> None:
    tracker = BudgetTracker(Budget(max_calls=4))
    tracker.before_blocking_call(CallSize(requests=3))
    with pytest.raises(BudgetReachedError, match="3 is used, and the next call is estimated at 3"):
        tracker.before_blocking_call(CallSize(requests=3))
    tracker.answered(10, 5, None, calls=1, counted=3)
    assert tracker.calls == 1
