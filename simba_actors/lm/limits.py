"""Limits on the calls to an endpoint: rates that the user knows, and the concurrency that is found by trying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.class_help import suggests_names
from simba_actors.errors import ConfigError


@suggests_names(named={"rpm": "requests_per_minute", "tpm": "tokens_per_minute", "most_at_a_time": "max_concurrency"})
@dataclass(frozen=True, slots=True)
class Limits:
    """Known limits of an endpoint; None means no limit.

        Governor(limits={"openai/gpt-5-mini": Limits(requests_per_minute=500)})

    Raises:
        ConfigError: A limit is not a number above 0.
    """

    requests_per_minute: float | None = None
    """Maximum number of calls per minute."""
    tokens_per_minute: float | None = None
    """Maximum number of tokens per minute. Until its reply reports its usage, a call counts as an average one."""
    max_concurrency: int = 1024
    """Maximum number of calls in flight. Up to it, the governor finds out how many the endpoint accepts."""

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute"):
            cap = getattr(self, name)
            number = isinstance(cap, int | float) and not isinstance(cap, bool)
            if cap is not None and not (number and cap > 0):
                raise ConfigError(f"Limits({name}={cap!r}): a cap must be a number above 0, or None for no cap")
        most = cast("Any", self.max_concurrency)
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ConfigError(f"Limits(max_concurrency={most!r}): must be a whole number of at least 1")


class ConcurrencyLimit:
    """A limit on calls in flight that finds the endpoint's own, which providers do not publish.

    Additive increase, multiplicative decrease (Chiu and Jain, 1989), with two changes that keep refusals rare:

    - A refused call takes its slot with it. Of 64 calls at an endpoint that accepts 32, 32 are refused, and the limit
      is 32: it falls by exactly the share that was refused.
    - The limit rises by one after `PROBE_AFTER` answers. As long as nothing is refused, each rise comes after half as
      many answers as the one before, down to one answer for each rise, which doubles the limit every round trip. So a
      limit that was reached is probed about once in `PROBE_AFTER` calls, and one that no longer holds is left fast.

    Args:
        start: The limit before anything is known.
        most: The highest limit.
    """

    PROBE_AFTER = 32

    def __init__(self, start: int = 4, most: int = 1024) -> None:
        self.limit = min(start, most)
        self._most = most
        self._answers = 0
        self._needed = 1
        self._was_refused = False

    def expect(self, calls: int) -> None:
        """Raise the limit to `calls`, which the user expects to be accepted, unless a call has been refused."""
        if not self._was_refused:
            self.limit = max(self.limit, min(calls, self._most))

    def answered(self, *, full: bool) -> None:
        """Note an answer. It counts only if the limit was `full`: it held other calls back."""
        if not full:
            return
        self._answers += 1
        if self._answers >= self._needed and self.limit < self._most:
            self.limit += 1
            self._answers = 0
            self._needed = max(1, self._needed // 2)

    def refused(self, in_flight: int) -> None:
        """Note that one of `in_flight` calls was refused as one too many."""
        self._was_refused = True
        self.limit = max(1, min(self.limit, in_flight) - 1)
        self._answers = 0
        # Small limits are probed sooner: one more refusal costs little there, and a limit of 1 costs much.
        self._needed = min(8 * self.limit, max(self.PROBE_AFTER, self.limit))


class RateLimit:
    """At most `per_minute` units a minute, spread evenly: the generic cell rate algorithm (ITU-T I.371, 1993).

        await sleep(requests.spend())

    After a minute of silence a whole minute's units may be spent at once, as providers count them.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._seconds_per_unit = 60.0 / per_minute
        self._clock = clock
        self._spent_until = clock()

    def spend(self, units: float = 1.0) -> float:
        """Take `units` now and return how many seconds to wait before using them."""
        now = self._clock()
        self._spent_until = max(self._spent_until, now) + units * self._seconds_per_unit
        return max(0.0, self._spent_until - now - 60.0)

    def correct(self, units: float) -> None:
        """Correct the last `spend` by the units used in addition; negative if fewer were used."""
        self._spent_until += units * self._seconds_per_unit
