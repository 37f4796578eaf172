"""The governor: sends LM calls, to each endpoint as many as it bears, and tries again what failed."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio

from simba_actors.errors import ConfigError, InfrastructureError, LMAccessError, LMUnavailableError
from simba_actors.lm.endpoint import Endpoint, Limits, Priority, Slot
from simba_actors.lm.failures import FailureClass, classify
from simba_actors.lm.retry import CircuitBreaker, Retry
from simba_actors.lm.rollout_context import RolloutContext, RolloutOverError
from simba_actors.lm.secrets import Secrets
from simba_actors.runtime.fair_scheduler import FairScheduler, YieldingDriver
from simba_actors.runtime.loop_bridge import LoopBlockedError, LoopBridge, LoopEndedError

R = TypeVar("R")

TURN_SECONDS, OWN_TURN_SECONDS = 1.0, 0.05
"""How long a turn of the event loop may take before it counts as blocked by what a thread's call belongs to.

The second is for where the loop is amid the very task that the call belongs to, which then most likely waits for it.
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """An LM call that met an infrastructure failure and is made again after `delay` seconds."""

    endpoint: str
    error: str
    attempt: int
    delay: float


class Gate(Protocol):
    """Open while calls may be sent."""

    @property
    def is_open(self) -> bool: ...

    async def passed(self) -> None:
        """Returns as soon as it is open."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: how urgent it is, what it allows, and what it wants to know.

    Calls wait for the `gate` to be open, also those that are tried again. `before_call` is awaited before each attempt
    is sent; where it raises, nothing is sent and the rollout ends with that error. `before_blocking_call` takes its
    place for calls that block the event loop, and so can wait for nothing. `on_fault` hears of every call that is tried
    again, `on_answer` of every answer what DSPy puts into the LM's history.
    """

    priority: Priority = Priority.OPTIMIZER
    gate: Gate | None = None
    before_call: Callable[[], Awaitable[None]] | None = None
    before_blocking_call: Callable[[], None] | None = None
    on_fault: Callable[[Fault], None] | None = None
    on_answer: Callable[[Mapping[str, Any]], None] | None = None


class BlockingCallError(InfrastructureError):
    """A call that waited for no turn, and so is not made again by itself, met an infrastructure failure."""


class Governor:
    """Sends LM calls for all who share it. One governor belongs to one event loop.

        governor = Governor(limits={"openai/gpt-5-mini": Limits(requests_per_minute=500)})
        lm = governed(lm, governor)

    Args:
        retry: How failed calls are tried again, and when an endpoint is given up.
        limits: Of endpoints by name (see `endpoint_name`); the others have none but what they turn out to bear.
        draws: For jitter; no result of a run depends on it.
        sleep: Waits for so many seconds.
        clock: Seconds that never go back.

    Raises:
        ConfigError: A value of `limits` is no `Limits`.
    """

    def __init__(
        self,
        *,
        retry: Retry | None = None,
        limits: Mapping[str, Limits] | None = None,
        draws: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retry = retry or Retry()
        self._limits = dict(limits or {})
        for name, limit in self._limits.items():
            if not isinstance(cast("Any", limit), Limits):
                raise ConfigError(
                    f"limits[{name!r}]={limit!r:.80}: must be Limits, as in Limits(requests_per_minute=500)"
                )
        self._draws = draws or random.Random()  # noqa: S311 - jitter, no secret
        self._sleep = sleep
        self._clock = clock
        self.scheduler = FairScheduler()
        self._endpoints: dict[str, Endpoint] = {}
        self.secrets = Secrets()
        self._bridge = LoopBridge()

    def endpoint(self, name: str) -> Endpoint:
        if name not in self._endpoints:
            breaker = CircuitBreaker(self._retry.grace_period, self._clock)
            self._endpoints[name] = Endpoint(name, self._limits.get(name, Limits()), breaker, self._clock)
        return self._endpoints[name]

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints used so far. May be called from any thread."""
        return list(self._endpoints.values())

    async def call(
        self, endpoint: Endpoint, caller: Caller, rollout: RolloutContext, send: Callable[[], Coroutine[Any, Any, R]]
    ) -> R:
        """What `send()` gives, tried again while the infrastructure fails.

        Raises:
            LMAccessError: The failure is one that waiting does not mend.
            LMUnavailableError: Patience is over.
            Exception: Anything else that `send()` or `before_call()` raised.
        """
        for attempt in itertools.count(1):
            slot = await self._enter(endpoint, caller, rollout)
            try:
                answer = await YieldingDriver(send(), self._turn_of(rollout))
            except Exception as error:  # noqa: BLE001 - raised again if it is not to be tried again
                await self._wait_after(slot, endpoint, caller, rollout, error, attempt)
            except BaseException:
                slot.leave()
                raise
            else:
                slot.answered()
                rollout.meter.answered()
                return answer
        raise AssertionError("itertools.count ended")

    def call_in_thread(
        self,
        endpoint: Endpoint,
        caller: Caller,
        rollout: RolloutContext,
        send: Callable[[], R],
        loop: asyncio.AbstractEventLoop,
    ) -> R:
        """As `call`, from another thread than that of the governor's `loop`, with a `send` that blocks.

        Where the loop is blocked, as by `dspy.Parallel` in an async student, the call is made as by `call_blocking`.
        """
        for attempt in itertools.count(1):
            try:
                slot = self._on(loop, rollout, partial(self._enter, endpoint, caller, rollout))
            except LoopBlockedError:
                return self.call_blocking(endpoint, caller, rollout, send)
            rollout.hold(slot)
            try:
                answer = send()
            except Exception as error:  # noqa: BLE001 - raised again if it is not to be tried again
                try:
                    self._on(loop, rollout, partial(self._wait_after, slot, endpoint, caller, rollout, error, attempt))
                except LoopBlockedError:
                    loop.call_soon_threadsafe(slot.leave)
                    raise error from None
            except BaseException:
                loop.call_soon_threadsafe(slot.leave)
                raise
            else:
                loop.call_soon_threadsafe(slot.answered)
                rollout.meter.answered()
                return answer
            finally:
                rollout.let_go(slot)
        raise AssertionError("itertools.count ended")

    def call_blocking(self, endpoint: Endpoint, caller: Caller, rollout: RolloutContext, send: Callable[[], R]) -> R:
        """What `send()` gives, where the event loop is blocked until it has: without waiting for a turn.

        Raises:
            BlockingCallError: The infrastructure failed. The call can't wait to be made again, but the rollout can.
            Exception: Anything else that `send()` or `before_blocking_call()` raised.
        """
        rollout.check()
        if caller.before_blocking_call is not None:
            try:
                caller.before_blocking_call()
            except Exception as error:
                rollout.stop(error)
                raise
        rollout.meter.sent()
        try:
            answer = send()
        except Exception as error:
            if classify(error) in (None, FailureClass.PROGRAM):
                raise
            told = self.secrets.hide(f"{type(error).__name__}: {error}")
            failure = BlockingCallError(f"{endpoint.name} failed a call that blocks the event loop: {told}")
            rollout.stop(failure)
            raise failure from error
        rollout.meter.answered()
        return answer

    def renew_grace_period(self) -> None:
        """Somebody says that the endpoints answer again. Calls that are under way still are given time to find out."""
        for endpoint in self._endpoints.values():
            endpoint.breaker.close()

    async def back_off(self, attempt: int) -> None:
        """Waits as before another attempt of something that failed `attempt` times."""
        await self._sleep(self._retry.delay(attempt, None, self._draws))

    def _turn_of(self, rollout: RolloutContext) -> Callable[[], Coroutine[Any, Any, None]]:
        """How a rollout waits for its turn after each of a call's waits."""
        if not rollout.ahead:
            return self.scheduler.go_on

        async def go_ahead() -> None:
            with rollout.waiting():  # It may be long, and is not the rollout's time.
                await self.scheduler.go_ahead()

        return go_ahead

    async def _enter(self, endpoint: Endpoint, caller: Caller, rollout: RolloutContext) -> Slot:
        with rollout.waiting():
            slot = await self._turn(endpoint, caller)
            try:
                rollout.check()
                if caller.before_call is not None:
                    await caller.before_call()
            except BaseException as error:
                slot.leave()
                if isinstance(error, Exception):
                    rollout.stop(error)
                raise
        rollout.meter.sent()
        return slot

    async def _turn(self, endpoint: Endpoint, caller: Caller) -> Slot:
        gate = caller.gate
        while gate is not None:
            await gate.passed()
            slot = await endpoint.enter(caller.priority, self._sleep)
            if gate.is_open:
                return slot
            slot.leave()
        return await endpoint.enter(caller.priority, self._sleep)

    async def _wait_after(
        self, slot: Slot, endpoint: Endpoint, caller: Caller, rollout: RolloutContext, error: Exception, attempt: int
    ) -> None:
        """Leaves the slot of a failed attempt and waits until the next one. Raises if there is to be none."""
        delay = self._retry.delay(attempt, getattr(error, "retry_after", None), self._draws)
        verdict = classify(error)
        match verdict:
            case None:
                slot.leave()
                raise error
            case FailureClass.PROGRAM:
                slot.answered()
                raise error
            case FailureClass.CROWDED:
                slot.refused(delay)
            case FailureClass.TRANSIENT | FailureClass.PERSISTENT:
                slot.failed()
        told = self.secrets.describe(error)
        ending = self._ending(endpoint, verdict, told, attempt)
        if ending is not None:
            rollout.stop(ending)
            raise ending from error
        if caller.on_fault is not None:
            caller.on_fault(Fault(endpoint.name, told, attempt, delay))
        with rollout.waiting():
            await self._sleep(delay)

    def _ending(
        self, endpoint: Endpoint, verdict: FailureClass, told: str, attempt: int
    ) -> LMAccessError | LMUnavailableError | None:
        """Why the call is not made again, if it is not."""
        if verdict is FailureClass.PERSISTENT:
            return LMAccessError(
                f"{endpoint.name} refuses to serve: {told}. Waiting does not mend that: put the key, the account or "
                "the model's name right, then resume"
            )
        if endpoint.breaker.is_open or attempt >= self._retry.attempts:
            return LMUnavailableError(
                f"{endpoint.name} can't be reached ({attempt} attempts): {told}. Resume when it answers again"
            )
        return None

    def _on(
        self, loop: asyncio.AbstractEventLoop, rollout: RolloutContext, work: Callable[[], Coroutine[Any, Any, R]]
    ) -> R:
        """What `work()` gives, run on `loop` while this thread waits."""
        turn_seconds = OWN_TURN_SECONDS if rollout.is_of_task_that_runs_on(loop) else TURN_SECONDS
        try:
            return self._bridge.run(loop, work, turn_seconds)
        except LoopEndedError:
            raise RolloutOverError(
                "the event loop that this LM call belongs to has ended, and the call with it"
            ) from None


_governors: WeakKeyDictionary[asyncio.AbstractEventLoop, Governor] = WeakKeyDictionary()


def shared_governor() -> Governor:
    """The governor of the running event loop, shared by all optimizers that bring none of their own."""
    return _governors.setdefault(asyncio.get_running_loop(), Governor())
