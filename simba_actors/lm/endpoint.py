"""One model at one address: who may send a call to it, and when."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from simba_actors.errors import ConfigError
from simba_actors.lm.concurrency_limit import ConcurrencyLimit
from simba_actors.lm.rate_limit import RateLimit
from simba_actors.lm.retry import CircuitBreaker


class Priority(IntEnum):
    """Who goes first where calls wait: people do not wait for an optimizer."""

    LIVE = 0
    OPTIMIZER = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What is known about an endpoint beforehand; None is no cap.

    Concurrency is found out. A call counts with the tokens that calls used on average so far, and is corrected when
    its reply says what it used.

    Raises:
        ConfigError: A cap is no number above 0.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    most_at_a_time: int = 1024

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute"):
            cap = getattr(self, name)
            number = isinstance(cap, int | float) and not isinstance(cap, bool)
            if cap is not None and not (number and cap > 0):
                raise ConfigError(f"Limits({name}={cap!r}): a cap must be a number above 0, or None for no cap")
        most = cast("Any", self.most_at_a_time)
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ConfigError(f"Limits(most_at_a_time={most!r}): must be a whole number of at least 1")


class Slot:
    """One call's place at an endpoint. It is given up once, by whichever of these is called first."""

    __slots__ = ("_endpoint", "_held")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._held = True

    def answered(self) -> None:
        """The call was answered, whatever with."""
        if self._give_up():
            self._endpoint.answered()

    def failed(self) -> None:
        """The call was not answered."""
        if self._give_up():
            self._endpoint.failed()

    def refused(self, delay: float) -> None:
        """The call was one too many, and is made again after `delay` seconds."""
        if self._give_up():
            self._endpoint.refused(delay)

    def leave(self) -> None:
        """Nothing is known of the call: it was not sent, or nobody waits for it any more."""
        if self._give_up():
            self._endpoint.leave()

    def _give_up(self) -> bool:
        held, self._held = self._held, False
        return held


class Endpoint:
    """The calls to one model at one address, of one event loop."""

    def __init__(self, name: str, limits: Limits, breaker: CircuitBreaker, clock: Callable[[], float]) -> None:
        self.name = name
        self.window = ConcurrencyLimit(most=limits.most_at_a_time)
        self.breaker = breaker
        self.in_flight = 0
        self.has_answered = False
        self._clock = clock
        self._closed_until = 0.0
        self._requests = RateLimit(limits.requests_per_minute, clock) if limits.requests_per_minute else None
        self._tokens = RateLimit(limits.tokens_per_minute, clock) if limits.tokens_per_minute else None
        self._mean_tokens = 0.0
        self._waiting: list[tuple[Priority, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return sum(not turn.done() for _, _, turn in self._waiting)

    async def enter(self, priority: Priority, sleep: Callable[[float], Awaitable[None]]) -> Slot:
        """Waits for a slot, those with the lowest priority value first, and then until a call may be sent."""
        if self.in_flight < self.window.limit and not self._waiting:
            self.in_flight += 1
        else:
            await self._turn(priority)
        slot = Slot(self)
        try:
            if self._requests is not None:
                await sleep(self._requests.spend())
            if self._tokens is not None:
                await sleep(self._tokens.spend(self._mean_tokens))
            while (closed := self._closed_until - self._clock()) > 0:
                await sleep(closed)
        except BaseException:
            slot.leave()
            raise
        return slot

    async def _turn(self, priority: Priority) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Gives the slot to who waits for it."""
        self.in_flight -= 1
        while self._waiting and self.in_flight < self.window.limit:
            _, _, slot = heapq.heappop(self._waiting)
            if not slot.done():
                self.in_flight += 1
                slot.set_result(None)

    def answered(self) -> None:
        """The call in a slot was answered, whatever with; the slot is free."""
        self.has_answered = True
        self.breaker.close()
        self.window.answered(full=bool(self._waiting) or self.in_flight >= self.window.limit)
        self.leave()

    def failed(self) -> None:
        """The call in a slot was not answered; the slot is free."""
        self.breaker.fault()
        self.leave()

    def refused(self, delay: float) -> None:
        """The call in a slot was one too many; the slot is gone with it.

        Where it was the only slot it cannot be for concurrency: nothing is sent for `delay` seconds.
        """
        self.breaker.fault()
        if self.window.limit == 1:
            self._closed_until = max(self._closed_until, self._clock() + delay)
        self.window.refused(self.in_flight)
        self.leave()

    def used(self, tokens: int) -> None:
        """What a reply says that its call used."""
        if self._tokens is not None:
            self._tokens.correct(tokens - self._mean_tokens)
            self._mean_tokens += 0.1 * (tokens - self._mean_tokens) if self._mean_tokens else tokens
