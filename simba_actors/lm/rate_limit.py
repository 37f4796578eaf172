"""Caps on what is sent to an endpoint a minute."""

from __future__ import annotations

from collections.abc import Callable


class RateLimit:
    """At most `per_minute` units a minute, evenly: the generic cell rate algorithm (ITU-T I.371, 1993).

    A minute's worth may be sent at once after a minute of silence, as providers count it. `spend` takes units and says
    how many seconds to wait before using them; `correct` adds what turned out to be used besides.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._seconds_a_unit = 60.0 / per_minute
        self._clock = clock
        self._spent_until = clock()

    def spend(self, units: float = 1.0) -> float:
        """Seconds to wait until these units may be used. They are taken now."""
        now = self._clock()
        self._spent_until = max(self._spent_until, now) + units * self._seconds_a_unit
        return max(0.0, self._spent_until - now - 60.0)

    def correct(self, units: float) -> None:
        self._spent_until += units * self._seconds_a_unit
