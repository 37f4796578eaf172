"""How many steps are open at a time.

A step waits for replies three times: for its samples, its rules, and the rollouts of its candidates. By itself it
leaves slots idle each time. Other steps fill them, but each step that is open is one more whose findings a plan does
not have. In simulated runs with 4,000 rollouts, the cost of 5 steps at once was within noise. With 1,500,
2 steps cost 2 % of the gain, 3 up to 3 % and 5 up to 12 %. Larger steps would fill the slots too, but cost more.
"""

from __future__ import annotations

import math

ROUNDS = 3
"""Replies that a step waits for one after the other."""

FULL = 5
"""A step that has this many rollouts for each slot keeps four fifths of them busy by itself."""

ROLLOUTS_PER_OPEN_STEP = 1_000
"""Rollouts of the whole search for each step that is open beside the oldest."""

MOST_OPEN = 4
"""At most one in so many of a run's steps is open at a time: a search needs some steps that learn from others."""


def steps_at_once(concurrency: int, rollouts_per_step: int, search: int) -> int:
    """Return how many steps have to be open for `concurrency` rollouts to be in flight, within what is good for a run.

    `search` is the number of rollouts of all steps together.
    """
    if rollouts_per_step >= FULL * concurrency:
        return 1
    needed = max(2, math.ceil(ROUNDS * concurrency / rollouts_per_step))
    steps = search // rollouts_per_step
    return max(1, min(needed, 1 + search // ROLLOUTS_PER_OPEN_STEP, steps // MOST_OPEN))
