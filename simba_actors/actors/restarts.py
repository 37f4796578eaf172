"""How often is too often: the restart intensity of a supervisor."""

from __future__ import annotations

from collections import deque


class RestartIntensity:
    """Allows `max_restarts` restarts within any `max_seconds`."""

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._times: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Counts a restart at `now`, and tells whether it is still one of those allowed."""
        self._times.append(now)
        while self._times and self._times[0] < now - self.max_seconds:
            self._times.popleft()
        return len(self._times) <= self.max_restarts
