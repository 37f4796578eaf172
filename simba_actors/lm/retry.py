"""Retry rules: backoff for one call, and a circuit breaker for an endpoint."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from simba_actors.class_help import suggests_names


@suggests_names()
@dataclass(frozen=True, slots=True)
class Retry:
    """Rules for retrying a failed call.

        Governor(retry=Retry(attempts=5, grace_period=300))

    Delays have full jitter: each is drawn evenly from 0 up to a bound that doubles, which ends contention soonest
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    attempts: int = 16
    """Maximum number of attempts per call, including the first."""
    base: float = 0.5
    """Upper bound of the first delay, in seconds."""
    longest: float = 30.0
    """Maximum upper bound of a delay, in seconds. A longer `Retry-After` of the provider is honoured."""
    grace_period: float = 60.0
    """Seconds for which an endpoint may return only faults, or ask to wait, before its calls give up."""

    def delay(self, attempt: int, retry_after: float | None, draws: random.Random) -> float:
        """Return the seconds to wait after the failed `attempt`, counted from 1."""
        bound = min(self.longest, self.base * 2 ** (attempt - 1))
        return max(draws.uniform(0, bound), retry_after or 0.0)


class CircuitBreaker:
    """Opens once an endpoint has returned only faults for `grace_period` seconds.

    While it is open no call is made again. Each new one is a probe, sent once, and the first answer closes it.
    """

    LEAST_FAULTS = 4
    """Minimum number of consecutive faults, since fewer may be one call's bad luck, however long they took."""

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
