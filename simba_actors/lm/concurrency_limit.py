"""How many calls an endpoint bears at a time, learned from what it refuses."""

from __future__ import annotations


class ConcurrencyLimit:
    """A limit on calls in flight that finds the endpoint's own, which nobody tells.

    Additive increase, multiplicative decrease (Chiu and Jain, 1989), with two turns that keep refusals rare:

    - A refused call takes its slot with it. Of 64 calls at an endpoint that bears 32, 32 are refused, and the limit is
      32: the decrease is by the share that was refused, neither more nor less.
    - The limit rises by one after `PROBE_AFTER` answers. As long as nothing is refused each rise comes after half as
      many as the one before, down to one answer a rise, which doubles the limit every round trip. So a limit that was
      hit is probed about once in `PROBE_AFTER` calls, and one that has gone is left behind fast.

    Args:
        start: The limit before anything is known.
        most: The limit at most.
    """

    PROBE_AFTER = 32

    def __init__(self, start: int = 4, most: int = 1024) -> None:
        self.limit = min(start, most)
        self._most = most
        self._answers = 0
        self._needed = 1
        self._was_refused = False

    def expect(self, calls: int) -> None:
        """Somebody who should know expects that so many are borne: until one is refused, the limit is no lower."""
        if not self._was_refused:
            self.limit = max(self.limit, min(calls, self._most))

    def answered(self, *, full: bool) -> None:
        """A call was answered; `full` if the limit held others back: only then does an answer say anything about it."""
        if not full:
            return
        self._answers += 1
        if self._answers >= self._needed and self.limit < self._most:
            self.limit += 1
            self._answers = 0
            self._needed = max(1, self._needed // 2)

    def refused(self, in_flight: int) -> None:
        """One of `in_flight` calls was refused for being one too many."""
        self._was_refused = True
        self.limit = max(1, min(self.limit, in_flight) - 1)
        self._answers = 0
        # Small limits are probed sooner: one refusal more costs little there, and a limit of 1 costs much.
        self._needed = min(8 * self.limit, max(self.PROBE_AFTER, self.limit))
