"""How often is too often: the restart intensity of a supervisor."""

from __future__ import annotations

from collections import deque

from simba_actors.actors.durations import is_duration
from simba_actors.actors.errors import BadSpecError


class RestartIntensity:
    """Allows `max_restarts` restarts within any `max_seconds`.

    Raises:
        BadSpecError: They are no whole number of at least 0 and no number above 0.
    """

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        if not isinstance(max_restarts, int) or not is_duration(max_restarts):  # pyright: ignore[reportUnnecessaryIsInstance] - the caller may be untyped
            raise BadSpecError(f"max_restarts={max_restarts!r} is no whole number of at least 0")
        if not is_duration(max_seconds) or max_seconds == 0:
            raise BadSpecError(f"max_seconds={max_seconds!r} is no number above 0")
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._times: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Counts a restart at `now`, and tells whether it is still one of those allowed."""
        self._times.append(now)
        while self._times and self._times[0] < now - self.max_seconds:
            self._times.popleft()
        return len(self._times) <= self.max_restarts
