"""The budget of a run: its caps, what has been used, and what is left.

tracker = BudgetTracker(Budget(max_calls=5_000, max_cost=2.0))
await tracker.before_call()     # before each LM call; raises BudgetReachedError if it would pass a cap
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import anyio
import anyio.to_thread

from simba_actors.class_help import suggests_names
from simba_actors.errors import BudgetReachedError, ConfigError, UnknownUsageError
from simba_actors.events import BudgetForecast
from simba_actors.search.rollout import Usage
from simba_actors.store.queries.usage_queries import PROMPT_MODEL
from simba_actors.store.records import RecordProposal, RecordRollout, RecordSpending, ReserveCalls, Spending, Write

CHARACTERS_PER_TOKEN = 4
"""Characters per token, assumed until a reply reports how many tokens its prompt has."""


COUNTED = "counted"
"""Key of an answer's history entry under which is how many requests were counted before the call."""

LOOK_SECONDS, LONGEST_WAIT = 0.01, 60.0
"""Seconds between checks whether calls in flight leave room for another, and the maximum that a call waits for it."""

LEAST_WAIT = 0.1
"""Minimum seconds between checks of the run's clock, which stops while the run is paused."""


@suggests_names(named={"max_usd": "max_cost", "max_dollars": "max_cost", "timeout": "max_seconds"})
@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Caps on what a run may use, including before restarts; None means no cap.

        OptimizerConfig(…, budget=Budget(max_calls=5_000, max_cost=2.0))

    Reaching a cap ends the run with the best program known by then. Start it again with a larger budget to continue.

    `max_calls` is never exceeded. For `max_tokens` and `max_cost`, each call is estimated before it is sent, from the
    length of the prompt and of the replies so far, or of the LM's `max_tokens` and price before the first reply. It is
    not sent if the usage so far and the estimate exceed the cap, and it waits while calls in flight are estimated to
    use what is left. So the caps may be exceeded only by the errors of the estimates of calls in flight, and by calls
    that block the event loop, which do not wait. Every call counts, including those of rollouts that failed or were cut
    short, and those of judges in the metric.
    """

    max_calls: int | None = None
    """LM calls, including attempts that fail, since a provider may bill them. They are stored before they are sent, so
    the cap is never exceeded, except by a remote student, whose number of calls is known only after each run of it."""
    max_cost: float | None = None
    """US dollars, as the LM reports them. If it does not report its cost, the run pauses."""
    max_tokens: int | None = None
    """Tokens of prompts and completions together. If the LM does not report them, the run pauses."""
    max_seconds: float | None = None
    """Uptime in seconds. Pauses, and the time until a restart, do not count. Calls in flight by then are waited for."""

    def __post_init__(self) -> None:
        for cap in fields(self):
            limit = getattr(self, cap.name)
            number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if limit is not None and not (number and limit > 0):
                raise ConfigError(f"Budget({cap.name}={limit!r}): a cap must be a number above 0, or None for no cap")


@dataclass(frozen=True, slots=True)
class CallSize:
    """What is known about an LM call before it is sent."""

    characters: int | None = None
    """Characters of the prompt; None if unknown."""
    max_tokens: int | None = None
    """Maximum number of tokens of the reply; None if it has no limit."""
    lm: Any = None
    """The LM that is called."""
    requests: int = 1
    """Maximum number of requests that the call takes; see `most_requests`."""


@dataclass(slots=True)
class _Measured:
    """Sums over the calls of this process whose prompts were measured and whose tokens were reported."""

    calls: int = 0
    characters: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(slots=True)
class _InFlight:
    """Sums over the calls that were sent and are not over."""

    calls: int = 0
    characters: int = 0
    max_tokens: int = 0


UNKNOWN = CallSize()


class BudgetTracker:
    """Counts what a run uses, including before restarts, and keeps it within its budget.

    Args:
        budget: The caps.
        reserve: Stores the calls counted so far, and returns once they are safe. Calls are stored before they are
            sent, so that a killed process cannot pass `max_calls`.
        reserve_blocking: Stores one more call, without the event loop.
        clock: Gives monotonic seconds.
    """

    def __init__(
        self,
        budget: Budget,
        reserve: Callable[[], Awaitable[None]] | None = None,
        reserve_blocking: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        limits = ((cap.name, getattr(budget, cap.name)) for cap in fields(budget))
        self._caps: list[tuple[str, float]] = [(cap, limit) for cap, limit in limits if limit is not None]
        self._reserve = reserve
        self._reserve_blocking = reserve_blocking
        self._clock = clock
        self.calls = 0
        """LM calls that were sent, or may have been before a crash."""
        self.used = Usage()
        """The sum of all stored results."""
        self.spent = Usage()
        """Known usage of all answered calls, including answers that are not part of a result."""
        self.cap_reached: str | None = None
        """The cap for which the run ends in this process; None while there is none."""
        self._restored = False
        self._measured = _Measured()
        self._in_flight = _InFlight()
        self._prices: dict[str, tuple[float, float] | None] = {}
        """US dollars for a token of the prompt and of the completion, by model."""
        self._lock = threading.Lock()
        self._calls_stored = 0
        self._seconds = 0.0
        self._up_since: float | None = None

    # ── the store ────────────────────────────────────────────────────────────────────────────────────────────────────

    def restore(self, spending: Spending, used: Usage) -> None:
        """Start from the stored usage. After the first time, only the number of stored calls is taken over."""
        self._calls_stored = spending.calls
        if self._restored:
            return
        self._restored = True
        self.calls, self.used, self._seconds = max(spending.calls, used.calls), used, spending.seconds
        tokens, cost = max(spending.tokens, used.tokens or 0), max(spending.cost, used.cost or 0.0)
        self.spent = Usage(max(spending.calls, used.calls), tokens, 0, cost)

    def writes(self) -> list[Write]:
        """Return what the next transaction has to store."""
        unstored, spent = self.calls - self._calls_stored, self.spent
        spending = RecordSpending(spent.tokens or 0, spent.cost or 0.0, self.seconds)
        return [spending] if unstored <= 0 else [spending, ReserveCalls(unstored)]

    def stored(self, writes: Iterable[Write]) -> None:
        """Take note of what was stored."""
        for write in writes:
            match write:
                case RecordRollout(trajectory=trajectory):
                    self.used += trajectory.usage
                case RecordProposal(usage=usage):
                    self.used += usage
                case ReserveCalls(calls=calls):
                    self._calls_stored += calls
                case _:
                    pass

    @property
    def _has_to_reserve(self) -> bool:
        """Whether a counted call has to be stored before it is sent."""
        return self.budget.max_calls is not None and self.calls > self._calls_stored

    # ── LM calls ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def before_call(self, size: CallSize = UNKNOWN) -> None:
        """Count a call and store that, before it is sent. Raise BudgetReachedError if it would pass a cap."""
        if self._lacks_price(size):
            # With a limiter of its own, since the host's calls may occupy anyio's threads for however long.
            own = anyio.CapacityLimiter(1)
            await anyio.to_thread.run_sync(self._look_up_price, size.lm, abandon_on_cancel=True, limiter=own)
        await self._wait_for_room(size)
        self._count_call(size)
        self._add_in_flight(size, 1)
        try:
            if self._reserve is not None and self._has_to_reserve:
                await self._reserve()
        except BaseException:
            self.after_call(size)
            raise

    def after_call(self, size: CallSize) -> None:
        """Note that a call that `before_call` has counted is over."""
        self._add_in_flight(size, -1)

    def before_blocking_call(self, size: CallSize = UNKNOWN) -> None:
        """Do what `before_call` does for a call that blocks the event loop. May be called in any thread."""
        if self._lacks_price(size):
            self._look_up_price(size.lm)
        self._count_call(size)
        if self._reserve_blocking is not None and self.budget.max_calls is not None:
            for _ in range(size.requests):
                self._reserve_blocking()
                with self._lock:
                    self._calls_stored += 1

    def not_sent(self, size: CallSize = UNKNOWN) -> None:
        """Take back a call that was counted and not sent. Another one is sent in its place without being stored."""
        with self._lock:
            self.calls -= size.requests

    async def _wait_for_room(self, size: CallSize) -> None:
        """Wait while the calls in flight may use what this one needs. What they use is known when they are over."""
        until = self._clock() + LONGEST_WAIT  # An LM may call another one, which then waits for a call around it.
        while self._lacks_room(size) and self._clock() < until:  # noqa: ASYNC110 - threads end calls, too
            await anyio.sleep(LOOK_SECONDS)

    def _lacks_room(self, size: CallSize) -> bool:
        flying = self._in_flight
        if not flying.calls or self.reached(size) is not None:
            return False
        others = CallSize(flying.characters or None, flying.max_tokens, size.lm)
        return any(
            self._spent(cap) + self._estimate(cap, others, flying.calls) + self._estimate(cap, size) > limit
            for cap, limit in self._caps
            if cap in ("max_cost", "max_tokens")
        )

    def _add_in_flight(self, size: CallSize, sign: int) -> None:
        with self._lock:
            self._in_flight.calls += sign
            self._in_flight.characters += sign * (size.characters or 0)
            self._in_flight.max_tokens += sign * (size.max_tokens or 0)

    def _count_call(self, size: CallSize) -> None:
        with self._lock:  # Threads make calls too, while the event loop is blocked.
            cap = self.reached(size)
            if cap is not None:
                raise self._reached(cap, size)
            self.calls += size.requests

    def answered(
        self,
        prompt_tokens: int | None,
        completion_tokens: int | None,
        cost: float | None,
        characters: int | None = None,
        calls: int = 1,
        counted: int = 1,
    ) -> None:
        """Count what a call used, as far as the LM reported it. May be called in any thread.

        `calls` is how many requests it took, of which `before_call` has counted `counted`.
        """
        with self._lock:
            self.calls += calls - counted
        if prompt_tokens is None and completion_tokens is None:
            return  # A reply from the cache, or one that says nothing.
        prompt, completion = prompt_tokens or 0, completion_tokens or 0
        with self._lock:
            self.spent += Usage(calls, prompt, completion, cost or 0.0)
            if characters:
                known = self._measured
                known.calls += 1
                known.characters += characters
                known.prompt_tokens += prompt
                known.completion_tokens += completion

    # ── the next call ────────────────────────────────────────────────────────────────────────────────────────────────

    def _lacks_price(self, size: CallSize) -> bool:
        """Return whether a call can only be priced by its model's price, which has not been looked up."""
        return (
            self.budget.max_cost is not None
            and size.lm is not None
            and not self.spent.cost
            and size.lm.model not in self._prices
        )

    def _look_up_price(self, lm: Any) -> None:
        from simba_actors.dspy_compat.prices import price_of

        self._prices[lm.model] = price_of(lm)

    def _estimate(self, cap: str, size: CallSize, calls: int = 1) -> float:
        """Return what calls of this size together will take of a cap; 0 if nothing is known."""
        if cap == "max_calls":
            return calls * size.requests
        spent, known = self.spent, self._measured
        if size.characters is None or (not known.calls and spent.calls):
            so_far = spent.tokens if cap == "max_tokens" else spent.cost
            return calls * (so_far or 0.0) / max(1, spent.calls)
        if known.calls:
            prompt = size.characters * known.prompt_tokens / known.characters
            completion = calls * known.completion_tokens / known.calls
        else:
            prompt, completion = size.characters / CHARACTERS_PER_TOKEN, size.max_tokens or 0
        if cap == "max_tokens":
            return prompt + completion
        if spent.cost and spent.tokens:
            return (prompt + completion) * spent.cost / spent.tokens
        price = self._prices.get(size.lm.model) if size.lm is not None else None
        return 0.0 if price is None else prompt * price[0] + completion * price[1]

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """Raise if no rollout may be started.

        Raises:
            BudgetReachedError: A cap is reached.
            UnknownUsageError: A cap cannot be kept, because the LM does not report what its calls use.
        """
        cap = self.reached()
        if cap is not None:
            raise self._reached(cap)
        if self.budget.max_cost is not None and self.used.cost is None:
            raise UnknownUsageError(
                f"max_cost={self.budget.max_cost:g} can't be kept: the LM does not say what its calls cost. Start the "
                "run again with max_calls or max_tokens in its place"
            )
        if self.budget.max_tokens is not None and self.used.tokens is None:
            raise UnknownUsageError(
                f"max_tokens={self.budget.max_tokens} can't be kept: the LM does not say how many its calls use. Start "
                "the run again with max_calls in its place"
            )

    def reached(self, size: CallSize = UNKNOWN) -> str | None:
        """Return the name of a cap that another call would exceed: one of this size, or by default an average one."""
        for cap, limit in self._caps:
            spent = self._spent(cap)
            another = 0.0 if cap == "max_seconds" else self._estimate(cap, size)
            if spent >= limit or spent + another > limit:
                return cap
        return None

    async def until_time_is_up(self) -> str:
        """Wait until the run has been up for `max_seconds`, or another cap is reached, and return that cap's name."""
        while (cap := self.reached()) is None:  # noqa: ASYNC110 - a clock that stops in pauses has no event
            await anyio.sleep(max(LEAST_WAIT, (self.budget.max_seconds or 0.0) - self.seconds))
        return cap

    def _spent(self, cap: str) -> float:
        match cap:
            case "max_calls":
                return self.calls
            case "max_cost":
                return self.spent.cost or 0.0
            case "max_tokens":
                return self.spent.tokens or 0
            case _:
                return self.seconds

    def _reached(self, cap: str, size: CallSize = UNKNOWN) -> BudgetReachedError:
        limit, spent = getattr(self.budget, cap), self._spent(cap)
        reason = f"the budget's {cap}={limit:g} is reached"
        if spent < limit:
            reason += f": {spent:g} is used, and the next call is estimated at {self._estimate(cap, size):g}"
        return BudgetReachedError(reason, cap)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def start_clock(self) -> None:
        """Count time as up from now on."""
        if self._up_since is None:
            self._up_since = self._clock()

    def stop_clock(self) -> None:
        """Stop counting time, because the run is paused."""
        self._seconds, self._up_since = self.seconds, None

    @property
    def seconds(self) -> float:
        """Uptime of the run in seconds, including before restarts, without pauses."""
        return self._seconds + (0.0 if self._up_since is None else self._clock() - self._up_since)


def forecast(
    used: Mapping[str, Usage], seconds: float, done: int, expected: int, max_steps: int, budget: Budget
) -> BudgetForecast:
    """Return what the whole run will have used if it continues like its first step, within its budget.

    `used` is what the first step's `done` rollouts and its strategies used, by name of the LM, and `seconds` what they
    took; the whole run makes `expected` rollouts.
    """
    share = expected / max(1, done)
    rollouts = sum((usage for lm, usage in used.items() if lm != PROMPT_MODEL), start=Usage())
    strategies = used.get(PROMPT_MODEL, Usage())
    whole = rollouts * share + strategies * min(share, max_steps)
    time = seconds * share
    caps = (
        (budget.max_calls, whole.calls),
        (budget.max_tokens, whole.tokens),
        (budget.max_cost, whole.cost),
        (budget.max_seconds, time),
    )
    # The cap that is reached first ends the run, so it bounds the rest too.
    within = min([1.0, *(cap / amount for cap, amount in caps if cap is not None and amount)])
    whole = whole * within
    return BudgetForecast(calls=whole.calls, tokens=whole.tokens, cost=whole.cost, seconds=time * within)
