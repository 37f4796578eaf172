"""Retry rules: backoff for one call, and a circuit breaker for an endpoint."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.class_help import suggests_names
from simba_actors.errors import CallRejectedError, ConfigError, LMAccessError, LMUnavailableError
from simba_actors.lm.failures import FailureClass

FEW_ATTEMPTS = 3
"""Attempts at a call that the provider refuses, or in which the LM's code fails, unless the prompt is to blame."""

MOST_DOUBLINGS = 60
"""Doublings of the first delay after which it counts as unbounded. Floats end at 1,024."""

ENDINGS = {
    FailureClass.PERSISTENT: (
        "{endpoint} refuses to serve: {error}. Correct the key, the account or the model's name, then resume"
    ),
    FailureClass.REJECTED: (
        "{endpoint} rejects a request, and does not say that the prompt is to blame: {error}. Put the LM's settings, "
        "the key or the model's name right, then resume"
    ),
    FailureClass.BROKEN: (
        "the code of the LM {endpoint} fails, and nothing says that the prompt is to blame: {error}. Correct the LM's "
        "code or its settings, then resume"
    ),
    FailureClass.MISSING_PACKAGE: (
        "the LM {endpoint} can't import what it needs: {error}. Install the package or correct the import, then resume"
    ),
    FailureClass.NO_STREAM: (
        "the engine of the LM {endpoint} can't stream, and dspy.streamify asks it to: {error}. Give it a `stream` "
        "method, or a student that does not stream, then resume"
    ),
    FailureClass.WARNED: (
        "the LM {endpoint} warns, and this process turns the warning into an error: {error}. Remove its cause, or let "
        "it pass with warnings.filterwarnings, then resume"
    ),
}
"""Messages about calls that fail until the user acts."""


@dataclass(frozen=True, slots=True)
class FailedCall:
    """The failure of one attempt at an LM call, as plain data."""

    failure: FailureClass
    description: str
    """The error, without secrets."""
    attempt: int
    """Number of the attempt, counted from 1."""
    retry_after: float | None
    """Seconds that the provider asks to wait; None if it does not ask."""


@suggests_names()
@dataclass(frozen=True, slots=True)
class Retry:
    """Rules for retrying a failed call.

        Governor(retry=Retry(attempts=5, grace_period=300))

    Delays have full jitter: each is drawn evenly from 0 up to a bound that doubles, which ends contention soonest
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

    Raises:
        ConfigError: A value is not a number, or is out of range.
    """

    attempts: int = 16
    """Maximum number of attempts per call, including the first."""
    base: float = 0.5
    """Upper bound of the first delay, in seconds."""
    longest: float = 30.0
    """Maximum upper bound of a delay, in seconds. A longer `Retry-After` of the provider is honoured."""
    grace_period: float = 60.0
    """Seconds for which an endpoint may return only faults, or ask to wait, before its calls give up."""

    def __post_init__(self) -> None:
        attempts = cast("Any", self.attempts)
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ConfigError(f"Retry(attempts={attempts!r}): must be a whole number of at least 1")
        for name in ("base", "longest", "grace_period"):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
                raise ConfigError(f"Retry({name}={seconds!r}): must be a number of seconds of at least 0")

    def delay(self, attempt: int, retry_after: float | None, draws: random.Random) -> float:
        """Return the seconds to wait after the failed `attempt`, counted from 1."""
        doublings = min(attempt - 1, MOST_DOUBLINGS)
        bound = min(self.longest, self.base * 2**doublings)
        return max(draws.uniform(0, bound), retry_after or 0.0)

    def ending(self, failed: FailedCall, endpoint: str, *, is_down: bool) -> LMAccessError | LMUnavailableError | None:
        """Return the error of a call that is not made again after it failed at `endpoint`, or None to make it again.

        `is_down` says whether the endpoint's circuit breaker is open.
        """
        description, attempt = failed.description.rstrip().removesuffix("."), failed.attempt
        retry_after = failed.retry_after
        failure = failed.failure
        depends_on_call = failure in (FailureClass.REJECTED, FailureClass.BROKEN)
        if depends_on_call and attempt < FEW_ATTEMPTS:
            return None
        if failure in ENDINGS:
            error = CallRejectedError if depends_on_call else LMAccessError
            return error(ENDINGS[failure].format(endpoint=endpoint, error=description))
        if retry_after is not None and retry_after > self.grace_period:
            return LMUnavailableError(
                f"{endpoint} asks to wait for {retry_after:.0f} s, which is longer than the grace period of "
                f"{self.grace_period:g} s: {description}. Resume when it answers again"
            )
        if is_down:
            return LMUnavailableError(
                f"{endpoint} fails every call ({attempt} attempts): {description}. Resume when it answers again"
            )
        if attempt >= self.attempts:
            return LMUnavailableError(
                f"{endpoint} failed one call {attempt} times: {description}. Resume when it answers again"
            )
        return None


class CircuitBreaker:
    """Opens once an endpoint has returned only faults for `grace_period` seconds.

    While it is open, failed calls are not made again. New calls are sent once each, as probes, and the first answer
    closes it.
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
