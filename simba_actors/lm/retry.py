"""How long to go on trying: backoff for one call, and a circuit breaker for an endpoint."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """How calls are tried again: `attempts` in all, `base` seconds doubling up to `longest`, with full jitter.

    Full jitter, a delay drawn evenly from 0 up to the bound, is the variant that ends contention soonest:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. A provider's `retry_after` is honoured
    where it is longer. `grace_period` is how many seconds an endpoint may answer nothing but faults before all its
    calls give up.
    """

    attempts: int = 16
    base: float = 0.5
    longest: float = 30.0
    grace_period: float = 60.0

    def delay(self, attempt: int, retry_after: float | None, draws: random.Random) -> float:
        """Seconds to wait after the failed `attempt`, counted from 1."""
        bound = min(self.longest, self.base * 2 ** (attempt - 1))
        return max(draws.uniform(0, bound), retry_after or 0.0)


class CircuitBreaker:
    """A circuit breaker: open once an endpoint has answered nothing but faults for `grace_period` seconds.

    While it is open no call is tried again. Each new one is a probe, sent once, and the first answer closes it.
    """

    LEAST_FAULTS = 4
    """Fewer in a row may be one call's bad luck, however long they took."""

    def __init__(self, grace_period: float, clock: Callable[[], float]) -> None:
        self._grace_period = grace_period
        self._clock = clock
        self._since = 0.0
        self._faults = 0

    @property
    def is_open(self) -> bool:
        return self._faults >= self.LEAST_FAULTS and self._clock() - self._since >= self._grace_period

    def fault(self) -> None:
        if self._faults == 0:
            self._since = self._clock()
        self._faults += 1

    def close(self) -> None:
        self._faults = 0
