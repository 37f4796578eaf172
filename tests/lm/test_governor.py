"""LM calls wait their turn, are retried until the grace period ends, and are not sent while the run pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import dspy
import pytest

from simba_actors.errors import ConfigError, LMAccessError, LMUnavailableError
from simba_actors.lm.governor import Caller, Fault, Governor
from simba_actors.lm.limits import ConcurrencyLimit, Limits
from simba_actors.lm.retry import CircuitBreaker, Retry
from simba_actors.lm.rollout_context import RolloutContext
from simba_actors.lm.usage import Meter
from tests.support.waiting import PATIENCE

NAME = "openai/quiz"


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.slept.append(seconds)
            self.now += seconds
        await asyncio.sleep(0)


class Gate:
    def __init__(self, *, is_open: bool = True) -> None:
        self.is_open = is_open
        self.opened = asyncio.Event()

    async def passed(self) -> None:
        if not self.is_open:
            await self.opened.wait()

    def open(self) -> None:
        self.is_open = True
        self.opened.set()


def governor_at(time: Time, retry: Retry | None = None, **limits: Any) -> Governor:
    return Governor(retry=retry, limits={NAME: Limits(**limits)}, draws=random.Random(0), sleep=time.sleep, clock=time)


def answers(*replies: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Returns the replies one after the other, and raises those that are errors."""
    ahead = iter(replies)

    async def send() -> Any:
        reply = next(ahead)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return send


async def call(governor: Governor, send: Callable[[], Coroutine[Any, Any, Any]], caller: Caller | None = None) -> Any:
    return await governor.call(governor.endpoint(NAME), caller or Caller(), RolloutContext(Meter()), send)


@pytest.mark.parametrize(
    "fault",
    [
        dspy.LMServerError("500"),
        dspy.LMRateLimitError("429"),
        dspy.LMTransportError("reset"),
        TimeoutError(),
        ConnectionResetError("reset"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_fault_that_passes_is_tried_again(fault: Exception) -> None:
    assert await call(governor_at(Time()), answers(fault, fault, "there")) == "there"


async def test_retry_after_is_honoured() -> None:
    time = Time()
    error = dspy.LMRateLimitError("429", retry_after=17.0)
    await call(governor_at(time), answers(error, "there"))
    assert time.now >= 17.0


async def test_a_caller_hears_of_each_call_that_is_made_again() -> None:
    faults: list[Fault] = []
    await call(governor_at(Time()), answers(dspy.LMServerError("down"), "there"), Caller(on_fault=faults.append))
    (fault,) = faults
    assert (fault.endpoint, fault.attempt) == (NAME, 1)
    assert "LMServerError" in fault.error


@pytest.mark.parametrize("error", [dspy.LMAuthError("401"), dspy.LMBillingError("402")], ids=["401", "402"])
async def test_a_refused_key_or_account_is_not_tried_again(error: Exception) -> None:
    with pytest.raises(LMAccessError, match="Correct the key, the account or the model's name, then resume"):
        await call(governor_at(Time()), answers(error))


async def test_an_error_about_the_prompt_is_raised_as_it_is() -> None:
    error = dspy.ContextWindowExceededError(model="m")
    with pytest.raises(dspy.ContextWindowExceededError):
        await call(governor_at(Time()), answers(error))


async def test_a_request_rejected_for_an_unknown_reason_pauses_after_three_attempts() -> None:
    send = answers(*[dspy.LMInvalidRequestError("odd", status=400)] * 3)
    with pytest.raises(LMAccessError, match=r"rejects a request, and does not say that the prompt is to blame: .*odd"):
        await call(governor_at(Time()), send)


async def test_a_request_rejected_once_is_made_again() -> None:
    assert await call(governor_at(Time()), answers(dspy.LMInvalidRequestError("odd", status=400), "there")) == "there"


@pytest.mark.parametrize(
    "error",
    [OSError(24, "Too many open files"), RuntimeError("can't start new thread"), KeyError("choices"), EOFError()],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_else_comes_out_of_a_call_is_not_the_programs(error: Exception) -> None:
    assert await call(governor_at(Time()), answers(error, "there")) == "there"


async def test_a_wait_that_the_provider_asks_for_is_not_longer_than_the_grace_period() -> None:
    time = Time()
    send = answers(dspy.LMRateLimitError("busy", retry_after=86_400.0))
    with pytest.raises(LMUnavailableError, match="asks to wait for 86400 s, which is longer than the grace period"):
        await call(governor_at(time), send)
    assert time.now == 0.0


async def test_a_renewed_grace_period_wakes_calls_that_wait_for_their_next_attempt() -> None:
    governor = Governor(retry=Retry(base=3600.0, longest=3600.0, grace_period=7200.0), draws=random.Random(0))
    waiting = asyncio.ensure_future(call(governor, answers(dspy.LMServerError("down"), "there")))
    for _ in range(10):
        await asyncio.sleep(0)
    governor.renew_grace_period()
    assert await asyncio.wait_for(waiting, PATIENCE) == "there"


async def test_the_grace_period_of_an_endpoint_ends() -> None:
    time = Time()
    send = answers(*[dspy.LMServerError("down")] * 100)
    with pytest.raises(LMUnavailableError, match="Resume when it answers again"):
        await call(governor_at(time, Retry(attempts=100, grace_period=60.0)), send)
    assert 60.0 <= time.now <= 60.0 + 2 * Retry().longest


async def test_calls_wait_at_a_shut_gate() -> None:
    gate, sent = Gate(is_open=False), list[str]()

    async def send() -> None:
        sent.append("sent")

    waiting = asyncio.ensure_future(call(governor_at(Time()), send, Caller(gate=gate)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not sent
    gate.open()
    await waiting
    assert sent


async def test_a_retry_waits_at_a_gate_that_was_shut_meanwhile() -> None:
    gate, attempts = Gate(), list[str]()

    async def send() -> None:
        attempts.append("sent")
        if len(attempts) == 1:
            gate.is_open = False
            raise dspy.LMServerError("down")

    waiting = asyncio.ensure_future(call(governor_at(Time()), send, Caller(gate=gate)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(attempts) == 1
    gate.open()
    await waiting
    assert len(attempts) == 2


async def test_calls_that_wait_for_a_slot_are_served_in_the_order_in_which_they_came() -> None:
    governor = governor_at(Time(), max_concurrency=1)
    order: list[str] = []
    release = asyncio.Event()

    async def first() -> None:
        await release.wait()

    def noting(name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def send() -> None:
            order.append(name)

        return send

    calls = [asyncio.ensure_future(call(governor, first))]
    await asyncio.sleep(0)
    for name in ("second", "third", "fourth"):
        calls.append(asyncio.ensure_future(call(governor, noting(name))))
        await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*calls)
    assert order == ["second", "third", "fourth"]


async def test_no_more_are_sent_a_minute_than_allowed() -> None:
    time = Time()
    governor = governor_at(time, requests_per_minute=30)
    for _ in range(90):
        await call(governor, answers("there"))
    assert time.now == pytest.approx(120.0)


async def test_no_more_are_sent_a_minute_than_allowed_after_a_run_is_resumed() -> None:
    governor, sent = Governor(limits={NAME: Limits(requests_per_minute=1)}), list[str]()

    async def send() -> None:
        sent.append("sent")

    await call(governor, send)
    waiting = asyncio.ensure_future(call(governor, send))
    for _ in range(10):
        await asyncio.sleep(0)
    governor.renew_grace_period()
    for _ in range(10):
        await asyncio.sleep(0)
    waiting.cancel()
    assert len(sent) == 1


async def test_no_more_tokens_are_used_a_minute_than_allowed() -> None:
    time = Time()
    governor = governor_at(time, tokens_per_minute=1000)
    for _ in range(40):
        await call(governor, answers("there"))
        governor.endpoint(NAME).used(100)
    assert time.now == pytest.approx(180.0, rel=0.1)


async def test_a_cancelled_call_leaves_its_place_to_others() -> None:
    governor = governor_at(Time(), max_concurrency=1)
    hung = asyncio.ensure_future(call(governor, asyncio.Event().wait))
    await asyncio.sleep(0)
    hung.cancel()
    await asyncio.wait([hung], timeout=PATIENCE)
    assert await call(governor, answers("there")) == "there"


def test_a_window_takes_back_as_much_as_was_refused() -> None:
    window = ConcurrencyLimit(start=64)
    for in_flight in range(64, 32, -1):
        window.refused(in_flight)
    assert window.limit == 32


def test_a_window_grows_only_while_it_holds_calls_up() -> None:
    window = ConcurrencyLimit(start=4)
    for _ in range(100):
        window.answered(full=False)
    assert window.limit == 4
    window.answered(full=True)
    assert window.limit == 5


def test_a_window_that_met_a_limit_probes_it_rarely() -> None:
    window = ConcurrencyLimit(start=33)
    window.refused(33)
    for _ in range(ConcurrencyLimit.PROBE_AFTER - 1):
        window.answered(full=True)
    assert window.limit == 32
    window.answered(full=True)
    assert window.limit == 33


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
@pytest.mark.parametrize("cap", [0, -5, True, "500", float("nan")])
def test_a_cap_that_is_no_number_above_zero_is_refused(name: str, cap: Any) -> None:
    with pytest.raises(ConfigError, match=rf"Limits\({name}=.*must be a number above 0"):
        Limits(**{name: cap})


@pytest.mark.parametrize("most", [0, -1, True, 1.5, None])
def test_a_concurrency_below_one_is_refused(most: Any) -> None:
    with pytest.raises(ConfigError, match=r"Limits\(max_concurrency=.*must be a whole number of at least 1"):
        Limits(max_concurrency=most)


@pytest.mark.parametrize(
    ("name", "value"),
    [("attempts", 0), ("attempts", 1.5), ("base", -1), ("longest", "30"), ("grace_period", float("nan"))],
)
def test_a_retry_rule_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"Retry\({name}=.*must be a (whole )?number of"):
        Retry(**{name: value})


def test_delays_stay_bounded_however_often_a_call_has_failed() -> None:
    retry = Retry(attempts=100_000, longest=30.0)
    assert 0.0 <= retry.delay(99_999, None, random.Random(0)) <= 30.0


def test_limits_that_are_a_number_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"limits\['openai/quiz'\]=5: must be Limits"):
        Governor(limits={NAME: 5})  # pyright: ignore[reportArgumentType]


def test_a_breaker_opens_after_nothing_but_faults_and_closes_with_an_answer() -> None:
    time = Time()
    breaker = CircuitBreaker(60.0, time)
    for _ in range(CircuitBreaker.LEAST_FAULTS):
        breaker.fault()
    assert not breaker.is_open
    time.now = 60.0
    assert breaker.is_open
    breaker.close()
    assert not breaker.is_open
