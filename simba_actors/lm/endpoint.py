"""One model at one address: when a call may be sent to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum

from simba_actors.lm.budget import UNKNOWN, CallSize
from simba_actors.lm.limits import ConcurrencyLimit, Limits, RateLimit
from simba_actors.lm.retry import CircuitBreaker


class Temperature(Enum):
    """Whether an endpoint accepts calls with the temperature that sampling adds."""

    UNTRIED = "untried"
    ACCEPTED = "accepted"
    SUSPECTED = "suspected"
    """The endpoint rejected one call for an unknown reason, and answered it without the temperature."""
    REFUSED = "refused"


class Slot:
    """Permission to have one call in flight at an endpoint.

    The first of these methods to be called gives it back. Later calls do nothing.
    """

    __slots__ = ("_held", "endpoint", "on_end", "size")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        """Where the call is in flight."""
        self._held = True
        self.size = UNKNOWN
        """What is known of the call."""
        self.on_end: Callable[[CallSize], None] | None = None
        """Called with `size` when the slot is given back."""

    def answered(self) -> None:
        """Give the slot back: the call got an answer."""
        if self._give_back():
            self.endpoint.answered()

    def rejected(self) -> None:
        """Give the slot back: the call was rejected, which does not show that others would be answered."""
        if self._give_back():
            self.endpoint.rejected()

    def failed(self) -> None:
        """Give the slot back: the call was not answered."""
        if self._give_back():
            self.endpoint.failed()

    def refused(self, delay: float) -> None:
        """Give the slot back: the endpoint had too many calls, and this one is made again after `delay` seconds."""
        if self._give_back():
            self.endpoint.refused(delay)

    def leave(self) -> None:
        """Give the slot back: the call was not sent, or its result is no longer needed."""
        if self._give_back():
            self.endpoint.leave()

    def _give_back(self) -> bool:
        held, self._held = self._held, False
        if held and self.on_end is not None:
            self.on_end(self.size)
        return held


class Endpoint:
    """The calls of one event loop to one model at one address."""

    def __init__(self, name: str, limits: Limits, breaker: CircuitBreaker, clock: Callable[[], float]) -> None:
        self.name = name
        self.window = ConcurrencyLimit(most=limits.max_concurrency)
        self.breaker = breaker
        self.in_flight = 0
        self.has_answered = False
        """Whether a call got any answer, good or bad."""
        self.answers = 0
        """Number of calls that got an answer, without those that were rejected."""
        self.temperature = Temperature.UNTRIED
        """Whether the endpoint accepts the temperature that sampling adds."""
        self._clock = clock
        self._closed_until = 0.0
        self._requests = RateLimit(limits.requests_per_minute, clock) if limits.requests_per_minute else None
        self._tokens = RateLimit(limits.tokens_per_minute, clock) if limits.tokens_per_minute else None
        self._mean_tokens = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return sum(not turn.done() for turn in self._waiting)

    async def enter(self, sleep: Callable[[float], Awaitable[None]]) -> Slot:
        """Wait for a slot, first come, first served, and then until a call may be sent."""
        if self.in_flight < self.window.limit and not self._waiting:
            self.in_flight += 1
        else:
            await self._turn()
        slot = Slot(self)
        try:
            if self._requests is not None:
                await self._wait(self._requests.spend(), sleep)
            if self._tokens is not None:
                await self._wait(self._tokens.spend(self._mean_tokens), sleep)
            while (closed := self._closed_until - self._clock()) > 0:
                await sleep(closed)
        except BaseException:
            slot.leave()
            raise
        return slot

    async def _wait(self, seconds: float, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Wait so long, even if `sleep` ends early because the run is resumed: a rate limit holds all the same."""
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            await sleep(left)

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Free the slot and hand it to the call that has waited longest."""
        self.in_flight -= 1
        while self._waiting and self.in_flight < self.window.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    def answered(self) -> None:
        """Free the slot of a call that got an answer."""
        self.answers += 1
        self._replied()

    def rejected(self) -> None:
        """Free the slot of a call that was rejected. The endpoint is up, and may answer others."""
        self._replied()

    def _replied(self) -> None:
        """Free the slot of a call that shows that the endpoint is up."""
        self.has_answered = True
        self.breaker.close()
        self.window.answered(full=bool(self._waiting) or self.in_flight >= self.window.limit)
        self.leave()

    def failed(self) -> None:
        """Free the slot of a call that was not answered."""
        self.breaker.fault()
        self.leave()

    def refused(self, delay: float) -> None:
        """Free the slot of a call that was one too many, and lower the limit by one.

        If the limit is a single call already, nothing is sent for `delay` seconds.
        """
        self.breaker.fault()
        if self.window.limit == 1:
            self._closed_until = max(self._closed_until, self._clock() + delay)
        self.window.refused(self.in_flight)
        self.leave()

    def reopen(self) -> None:
        """Forget past faults, since the user reports that the endpoint answers again."""
        self.breaker.close()
        self._closed_until = 0.0

    def used(self, tokens: int) -> None:
        """Note how many tokens a reply says that its call used."""
        if self._tokens is not None:
            self._tokens.correct(tokens - self._mean_tokens)
            self._mean_tokens += 0.1 * (tokens - self._mean_tokens) if self._mean_tokens else tokens
