"""The governor: sends LM calls, as many at a time as each endpoint accepts, and retries those that fail."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio

from simba_actors.class_help import suggests_names
from simba_actors.dspy_compat.provider_replies import on_one_line
from simba_actors.errors import ConfigError, InfrastructureError, SimbaError
from simba_actors.lm.budget import UNKNOWN, CallSize
from simba_actors.lm.endpoint import Endpoint, Slot
from simba_actors.lm.failures import FailureClass, classify, retry_after_of
from simba_actors.lm.limits import Limits
from simba_actors.lm.retry import CircuitBreaker, FailedCall, Retry
from simba_actors.lm.rollout_context import RolloutContext, RolloutOverError
from simba_actors.lm.secrets import Secrets
from simba_actors.runtime.exception_isolation import isolated
from simba_actors.runtime.fair_scheduler import FairScheduler, YieldingDriver
from simba_actors.runtime.loop_bridge import LoopBlockedError, LoopBridge, LoopEndedError

R = TypeVar("R")

TURN_SECONDS, OWN_TURN_SECONDS = 1.0, 0.05
"""Seconds after which an iteration of the event loop counts as blocked by the code that a thread's call belongs to.

The second is for a loop that is running the very task that the call belongs to, which most likely waits for the call.
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """A failed LM call that is made again after `delay` seconds."""

    endpoint: str
    error: str
    attempt: int
    delay: float


class Gate(Protocol):
    """Open while calls may be sent."""

    @property
    def is_open(self) -> bool: ...

    async def passed(self) -> None:
        """Return as soon as the gate is open."""
        ...


@dataclass(slots=True)
class Caller:
    """Hooks of whoever makes LM calls: a gate, checks before a call, and notifications."""

    gate: Gate | None = None
    """Calls wait for it to be open, at each attempt."""
    before_call: Callable[[CallSize], Awaitable[None]] | None = None
    """Awaited before each attempt. If it raises, nothing is sent and the rollout ends with that error."""
    after_call: Callable[[CallSize], None] | None = None
    """Called once an attempt that `before_call` has admitted is over, whether it was answered or not."""
    before_blocking_call: Callable[[CallSize], None] | None = None
    """Called in place of `before_call` for calls that block the event loop."""
    not_sent: Callable[[CallSize], None] | None = None
    """Called for a call that `before_call` admitted and that was not sent after all."""
    on_fault: Callable[[Fault], None] | None = None
    """Called for each call that is made again."""
    on_answer: Callable[[Mapping[str, Any]], None] | None = None
    """Called with the history entry of each answer."""

    def end(self) -> None:
        """Refuse later calls, and forget the hooks and the objects that they hold.

        An open connection keeps the context in which it was opened, with the LM of that call and this object.
        """

        def refuse(size: CallSize) -> NoReturn:
            raise RolloutOverError("the run of this LM call has ended; the call was not sent")

        async def refuse_async(size: CallSize) -> None:
            refuse(size)

        self.gate = self.after_call = self.not_sent = self.on_fault = self.on_answer = None
        self.before_call, self.before_blocking_call = refuse_async, refuse


class BlockingCallError(InfrastructureError):
    """An infrastructure failure of a call that blocks the event loop, which therefore can't wait to be made again."""


@suggests_names(within={"retry": Retry})
class Governor:
    """Sends the LM calls of everyone who shares it. One governor belongs to one event loop.

        governor = Governor(limits={"openai/gpt-5-mini": Limits(requests_per_minute=500)})
        lm = governed(lm, governor)

    Args:
        retry: Rules for retrying failed calls, and for giving an endpoint up.
        limits: Known limits of endpoints, by name (see `endpoint_name`). By default, limits are found by trying.
        draws: The source of jitter. No result of a run depends on it.
        sleep: Waits for a number of seconds.
        clock: Returns monotonic seconds.

    Raises:
        ConfigError: A value of `limits` is not a `Limits`.
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
        self._draws = draws or random.Random()  # noqa: S311 - jitter is not a secret
        self._sleep = sleep
        self._clock = clock
        self.scheduler = FairScheduler()
        self._endpoints: dict[str, Endpoint] = {}
        self.secrets = Secrets()
        self._bridge = LoopBridge()
        self._pauses: set[asyncio.Future[None]] = set()

    def endpoint(self, name: str) -> Endpoint:
        """Return the state of an endpoint: calls in flight and waiting, limits, faults. See `endpoint_name`."""
        if name not in self._endpoints:
            breaker = CircuitBreaker(self._retry.grace_period, self._clock)
            self._endpoints[name] = Endpoint(name, self._limits.get(name, Limits()), breaker, self._clock)
        return self._endpoints[name]

    def answers(self) -> dict[str, int]:
        """Return how many calls each endpoint has answered so far."""
        return {name: endpoint.answers for name, endpoint in self._endpoints.items()}

    def endpoints(self) -> list[Endpoint]:
        """Return all endpoints used so far. May be called from any thread."""
        return list(self._endpoints.values())

    async def call(
        self,
        endpoint: Endpoint,
        caller: Caller,
        rollout: RolloutContext,
        send: Callable[[], Coroutine[Any, Any, R]],
        size: CallSize = UNKNOWN,
    ) -> R:
        """Return what `send()` returns, and call it again while the infrastructure fails.

        Raises:
            LMAccessError: The call fails with any prompt until the user acts.
            LMUnavailableError: The grace period is over.
            Exception: What `send()` raised about the prompt, or what `before_call()` raised.
        """
        attempt = 0
        while True:
            attempt += 1
            slot = await self._enter(endpoint, caller, rollout, size)
            rollout.hold(slot)
            try:
                answer = await YieldingDriver(isolated(send()), self.scheduler.resume)
            except Exception as error:  # noqa: BLE001 - raised again unless the call is made again
                await self._wait_after(slot, endpoint, caller, rollout, error, attempt)
            except BaseException:
                slot.leave()
                raise
            else:
                slot.answered()
                rollout.meter.answered()
                return answer
            finally:
                rollout.let_go(slot)

    def call_in_thread(
        self,
        endpoint: Endpoint,
        caller: Caller,
        rollout: RolloutContext,
        send: Callable[[], R],
        loop: asyncio.AbstractEventLoop,
        size: CallSize = UNKNOWN,
    ) -> R:
        """Do what `call` does from another thread than that of the governor's `loop`, with a `send` that blocks.

        If the loop is blocked, as by `dspy.Parallel` in an async student, do what `call_blocking` does.
        """
        for attempt in itertools.count(1):
            try:
                slot = self._on(loop, rollout, partial(self._enter, endpoint, caller, rollout, size))
            except LoopBlockedError:
                return self.call_blocking(endpoint, caller, rollout, send, size)
            rollout.hold(slot)
            try:
                answer = send()
            except Exception as error:  # noqa: BLE001 - raised again unless the call is made again
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

    def call_blocking(
        self,
        endpoint: Endpoint,
        caller: Caller,
        rollout: RolloutContext,
        send: Callable[[], R],
        size: CallSize = UNKNOWN,
    ) -> R:
        """Return what `send()` returns, without waiting for a slot: the event loop is blocked until this returns.

        Raises:
            BlockingCallError: The infrastructure failed. The call can't wait to be made again, but the rollout can.
            Exception: What `send()` raised about the prompt, or what `before_blocking_call()` raised.
        """
        rollout.check()
        if caller.before_blocking_call is not None:
            try:
                caller.before_blocking_call(size)
            except Exception as error:
                rollout.stop(error)
                raise
        rollout.meter.sent()
        try:
            answer = send()
        except Exception as error:
            self.secrets.redact(error)
            if _is_to_be_raised(error):
                raise
            description = on_one_line(self.secrets.describe(error))
            message = f"{endpoint.name} failed a call that blocks the event loop: {description}"
            failure = BlockingCallError(message, endpoint=endpoint.name)
            rollout.stop(failure)
            raise failure from error
        endpoint.answers += 1
        rollout.meter.answered()
        return answer

    def renew_grace_period(self) -> None:
        """Start the grace period of all endpoints again, and let calls that wait for their next attempt start at once.

        Call this when the user reports that the endpoints answer again.
        """
        for endpoint in self._endpoints.values():
            endpoint.reopen()
        for pause in list(self._pauses):
            pause.cancel()

    async def back_off(self, attempt: int) -> None:
        """Wait as long as before another attempt at a call that has failed `attempt` times."""
        await self._pause(self._retry.delay(attempt, None, self._draws))

    async def admit(
        self,
        endpoint: Endpoint,
        caller: Caller,
        check: Callable[[], None] | None = None,
        size: CallSize = UNKNOWN,
    ) -> Slot:
        """Wait until a call may be sent, and return its slot. The call is counted.

        Raises:
            Exception: What `check()` raised about a call that is no longer wanted, or what `before_call()` raised.
        """
        slot = await self._turn(endpoint, caller)
        try:
            if check is not None:
                check()
            if caller.before_call is not None:
                await caller.before_call(size)
        except BaseException:
            slot.leave()
            raise
        slot.on_end, slot.size = caller.after_call, size
        return slot

    async def _enter(self, endpoint: Endpoint, caller: Caller, rollout: RolloutContext, size: CallSize) -> Slot:
        with rollout.waiting():
            try:
                slot = await self.admit(endpoint, caller, rollout.check, size)
            except Exception as error:
                rollout.stop(error)
                raise
        rollout.meter.sent()
        return slot

    async def _turn(self, endpoint: Endpoint, caller: Caller) -> Slot:
        gate = caller.gate
        while gate is not None:
            await gate.passed()
            slot = await endpoint.enter(self._pause)
            if gate.is_open:
                return slot
            slot.leave()
        return await endpoint.enter(self._pause)

    async def _pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until `renew_grace_period` is called."""
        if seconds <= 0:
            return
        pause = asyncio.ensure_future(self._sleep(seconds))
        self._pauses.add(pause)
        try:
            await asyncio.wait([pause])
        finally:
            self._pauses.discard(pause)
            pause.cancel()

    async def _wait_after(
        self, slot: Slot, endpoint: Endpoint, caller: Caller, rollout: RolloutContext, error: Exception, attempt: int
    ) -> None:
        """Free the slot of a failed attempt and wait until the next one. Raise if the call is not made again."""
        self.secrets.redact(error)
        if _is_to_be_raised(error):
            slot.answered()
            raise error
        description = on_one_line(self.secrets.describe(error))
        failed = FailedCall(classify(error), description, attempt, retry_after_of(error))
        try:
            with rollout.waiting():
                await self.recover(slot, endpoint, caller, failed)
        except InfrastructureError as ending:
            rollout.stop(ending)
            raise ending from error

    async def recover(self, slot: Slot, endpoint: Endpoint, caller: Caller, failed: FailedCall) -> None:
        """Free the slot of a failed call, and return when it may be made again.

        Raises:
            LMAccessError, LMUnavailableError: It is not made again.
        """
        delay = self._retry.delay(failed.attempt, failed.retry_after, self._draws)
        if failed.failure is FailureClass.CROWDED:
            slot.refused(min(delay, self._retry.grace_period))
        elif failed.failure in (FailureClass.REJECTED, FailureClass.BROKEN):
            slot.rejected()
        else:
            slot.failed()
        ending = self._retry.ending(failed, endpoint.name, is_down=endpoint.breaker.is_open)
        if ending is not None:
            ending.endpoint = endpoint.name
            raise ending
        if caller.on_fault is not None:
            caller.on_fault(Fault(endpoint.name, failed.description, failed.attempt, delay))
        await self._pause(delay)

    def _on(
        self, loop: asyncio.AbstractEventLoop, rollout: RolloutContext, work: Callable[[], Coroutine[Any, Any, R]]
    ) -> R:
        """Return what `work()` returns, run on `loop` while this thread waits."""
        turn_seconds = OWN_TURN_SECONDS if rollout.is_of_task_that_runs_on(loop) else TURN_SECONDS
        try:
            return self._bridge.run(loop, work, turn_seconds)
        except LoopEndedError:
            raise RolloutOverError(
                "the event loop that this LM call belongs to has ended, and the call with it"
            ) from None


def _is_to_be_raised(error: Exception) -> bool:
    """Return whether the error is caused by the prompt, or comes from another governed call."""
    return isinstance(error, SimbaError | RolloutOverError) or classify(error) is FailureClass.PROMPT


_governors: WeakKeyDictionary[asyncio.AbstractEventLoop, Governor] = WeakKeyDictionary()


def shared_governor() -> Governor:
    """Return the governor of the running event loop. Optimizers without a governor of their own share it."""
    return _governors.setdefault(asyncio.get_running_loop(), Governor())
