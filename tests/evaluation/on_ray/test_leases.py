"""Workers send LM calls on leases, and the optimizer's process keeps the budget and the limits of endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from dspy.utils.exceptions import LMAuthError

from simba_actors.errors import BudgetReachedError, LMAccessError, LMUnavailableError
from simba_actors.evaluation.on_ray.leases import LeaseOffice, LeasingGovernor
from simba_actors.evaluation.on_ray.messages import (
    CallAnswered,
    CallFailed,
    CallLeft,
    FromWorker,
    LeaseWanted,
    Reply,
    Withdrawn,
)
from simba_actors.lm.budget import COUNTED, Budget, BudgetTracker, CallSize
from simba_actors.lm.failures import FailureClass
from simba_actors.lm.governor import Caller, Fault, Governor
from simba_actors.lm.limits import Limits
from simba_actors.lm.retry import FailedCall, Retry
from simba_actors.lm.rollout_context import RolloutContext
from simba_actors.lm.usage import Meter, calls, prompt_characters, reported_cost, tokens
from simba_actors.team.run_state import Gate
from tests.support.waiting import PATIENCE, until

LM = "scripted/lm"


class TwoWorkers:
    """The calls of two workers, over messages as Ray would carry them, and the governor that admits them."""

    def __init__(self, *, budget: Budget | None = None, governor: Governor | None = None, **hooks: Any) -> None:
        self.tracker = BudgetTracker(budget or Budget())
        self.governor = governor or Governor()
        self.endpoint = self.governor.endpoint(LM)
        caller = Caller(before_call=self.tracker.before_call, not_sent=self.tracker.not_sent, **hooks)
        self.workers = [self._worker(caller) for _ in range(2)]
        self.sent = 0
        self.most_at_a_time = 0
        self._in_flight = 0

    def _worker(self, caller: Caller) -> tuple[LeasingGovernor, LeaseOffice]:
        loop = asyncio.get_running_loop()

        def reply(message: Reply) -> None:
            if not worker.settle_blocking(message):
                loop.call_soon(worker.settle, message)

        office = LeaseOffice(self.governor, caller, reply)
        worker = LeasingGovernor(lambda message: loop.call_soon_threadsafe(office.take, message) and None)
        return worker, office

    async def call(self, worker: int, send: Callable[[], Any] = lambda: None) -> None:
        async def sending() -> None:
            self.sent += 1
            self._in_flight += 1
            self.most_at_a_time = max(self.most_at_a_time, self._in_flight)
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                answer = send()
                if asyncio.iscoroutine(answer):
                    await answer
            finally:
                self._in_flight -= 1

        governor, _ = self.workers[worker]
        await governor.call(governor.endpoint(LM), Caller(), RolloutContext(Meter()), sending)

    async def calls(self, count: int) -> list[BaseException | None]:
        return await asyncio.gather(*(self.call(n % 2) for n in range(count)), return_exceptions=True)


async def test_a_cap_on_calls_holds_exactly_over_all_workers() -> None:
    both = TwoWorkers(budget=Budget(max_calls=7))
    ended = await both.calls(20)
    assert both.sent == 7
    assert [type(error) for error in ended if error is not None] == [BudgetReachedError] * 13


async def test_an_endpoint_gets_no_more_calls_at_a_time_than_its_limit_from_all_workers() -> None:
    both = TwoWorkers(governor=Governor(limits={LM: Limits(max_concurrency=3)}))
    await both.calls(20)
    assert both.sent == 20
    assert both.most_at_a_time == 3


async def test_the_rate_of_an_endpoint_holds_over_all_workers() -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        due = now + seconds
        await asyncio.sleep(0)
        now = max(now, due)

    governor = Governor(limits={LM: Limits(requests_per_minute=4)}, sleep=sleep, clock=lambda: now)
    await TwoWorkers(governor=governor).calls(6)
    assert now == 30.0


async def test_no_call_is_sent_while_the_run_is_paused() -> None:
    gate = Gate()
    both = TwoWorkers(gate=gate)
    gate.pausing.pause("by a test", "user")
    calls = asyncio.ensure_future(both.calls(4))
    for _ in range(50):
        await asyncio.sleep(0)
    assert both.sent == 0
    gate.pausing.resume()
    await calls
    assert both.sent == 4


@pytest.mark.parametrize("turns", range(5))
async def test_a_lease_that_is_withdrawn_while_it_is_granted_goes_back(turns: int) -> None:
    both = TwoWorkers()
    _, office = both.workers[0]
    office.take(LeaseWanted(1, LM))
    for _ in range(turns):
        await asyncio.sleep(0)
    withdrawn = asyncio.Event()
    asyncio.get_running_loop().call_soon(office.take, Withdrawn(1))
    asyncio.get_running_loop().call_soon(withdrawn.set)
    await asyncio.wait_for(withdrawn.wait(), PATIENCE)
    await until(lambda: (office.held, both.tracker.calls) == (0, 0))


async def test_a_lease_that_is_not_needed_goes_back() -> None:
    both = TwoWorkers(budget=Budget(max_calls=1))
    governor, office = both.workers[0]

    def is_over() -> None:
        raise RuntimeError("the rollout has ended")

    with pytest.raises(RuntimeError, match="ended"):
        await governor.admit(governor.endpoint(LM), Caller(), is_over)
    await until(lambda: office.held == 0)
    assert both.endpoint.in_flight == 0
    await both.call(1)
    assert both.sent == 1


async def test_a_lease_that_goes_back_gives_back_all_requests_that_its_call_would_have_taken() -> None:
    both = TwoWorkers(budget=Budget(max_calls=3))
    governor, office = both.workers[0]

    def is_over() -> None:
        raise RuntimeError("the rollout has ended")

    with pytest.raises(RuntimeError, match="ended"):
        await governor.admit(governor.endpoint(LM), Caller(), is_over, CallSize(requests=3))
    await until(lambda: office.held == 0)
    assert both.tracker.calls == 0


async def test_a_call_that_is_cancelled_while_it_waits_takes_no_lease() -> None:
    both = TwoWorkers(governor=Governor(limits={LM: Limits(max_concurrency=1)}))
    slot = await both.governor.admit(both.endpoint, Caller())
    waiting = asyncio.ensure_future(both.call(0))
    await until(lambda: both.endpoint.waiting == 1)
    waiting.cancel()
    await until(lambda: both.endpoint.waiting == 0)
    slot.leave()
    assert both.endpoint.in_flight == 0
    assert both.tracker.calls == 0


async def test_the_leases_of_a_worker_that_dies_count_as_used_and_free_their_slots() -> None:
    both = TwoWorkers(budget=Budget(max_calls=5))
    calls = [asyncio.ensure_future(both.call(0, asyncio.Event().wait)) for _ in range(3)]
    await until(lambda: both.sent == 3)
    both.workers[0][1].close()
    assert both.endpoint.in_flight == 0
    assert both.tracker.calls == 3
    for call in calls:
        call.cancel()
    await asyncio.wait(calls, timeout=PATIENCE)
    both.sent = 0
    await both.calls(4)
    assert both.sent == 2


@pytest.mark.parametrize(
    "message",
    [CallAnswered(7), CallLeft(7), CallFailed(7, FailedCall(FailureClass.TRANSIENT, "reset", 1, None))],
    ids=["answered", "left", "failed"],
)
async def test_the_end_of_a_call_without_a_lease_is_an_error_that_says_so(message: FromWorker) -> None:
    _, office = TwoWorkers().workers[0]
    with pytest.raises(LookupError, match="LM call 7 has ended, for which it holds no lease"):
        office.take(message)


async def test_a_failed_call_is_made_again_when_the_optimizers_process_says_so() -> None:
    faults: list[Fault] = []
    errors = iter([ConnectionError("reset"), None])

    def send() -> None:
        error = next(errors)
        if error is not None:
            raise error

    both = TwoWorkers(governor=Governor(retry=Retry(base=0.0)), on_fault=faults.append)
    await both.call(0, send)
    assert both.sent == 2
    assert [(fault.endpoint, fault.attempt) for fault in faults] == [(LM, 1)]


async def test_an_endpoint_that_fails_for_all_workers_is_given_up_by_all() -> None:
    def fail() -> None:
        raise ConnectionError("no route")

    both = TwoWorkers(governor=Governor(retry=Retry(base=0.0, grace_period=0.0)))
    ended = await asyncio.gather(*(both.call(n % 2, fail) for n in range(4)), return_exceptions=True)
    assert {type(error) for error in ended} == {LMUnavailableError}
    assert all("fails every call" in str(error) for error in ended)


async def test_a_refused_key_ends_the_call_with_the_same_error_as_in_one_process() -> None:
    def refuse() -> None:
        raise LMAuthError("no such key")

    both = TwoWorkers()
    with pytest.raises(LMAccessError, match="refuses to serve: LMAuthError: no such key"):
        await both.call(0, refuse)


async def test_a_call_that_blocks_the_loop_of_a_worker_is_counted_before_it_is_sent() -> None:
    both = TwoWorkers(budget=Budget(max_calls=1))
    governor, _ = both.workers[0]
    await asyncio.to_thread(governor.count_blocking_call)
    assert both.tracker.calls == 1
    with pytest.raises(BudgetReachedError):
        await asyncio.to_thread(governor.count_blocking_call)


async def test_what_answers_use_reaches_the_hooks_of_the_run() -> None:
    entries: list[Any] = []
    both = TwoWorkers(on_answer=entries.append)
    entry = {"model": LM, "usage": {"input_tokens": 3, "output_tokens": 4}, "cost": 0.5, "prompt": "What?", "x": "y"}
    both.workers[0][0].report(entry)
    await until(lambda: bool(entries))
    (arrived,) = entries
    assert (tokens(arrived), reported_cost(arrived), prompt_characters(arrived)) == ((3, 4), 0.5, 5)


async def test_how_many_requests_a_call_took_and_was_counted_as_reaches_the_hooks_of_the_run() -> None:
    entries: list[Any] = []
    both = TwoWorkers(on_answer=entries.append)
    both.workers[0][0].report({"model": LM, "usage": {}, "response": ("a", "b"), COUNTED: 3})
    await until(lambda: bool(entries))
    assert (calls(entries[0]), entries[0][COUNTED]) == (2, 3)
