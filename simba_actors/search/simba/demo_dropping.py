"""Making room for new demos by forgetting some at random."""

from __future__ import annotations

from simba_actors.search.randomness import Draws

DEMOS_WITHOUT_A_CAP = 3
"""What `dspy.SIMBA` takes as the cap for dropping when `max_demos` is 0, so that a student's own demos wear off."""


def demos_to_drop(demos: int, max_demos: int, draws: Draws) -> tuple[int, ...]:
    """Indices of the demos to drop from each predictor of a program whose longest list has `demos` of them.

    The count is Poisson(demos / max_demos), at least 1 when the cap is reached. Indices are drawn with replacement, as
    `dspy.SIMBA` draws them, so fewer demos may go than were counted.
    """
    cap = max_demos if max_demos > 0 else DEMOS_WITHOUT_A_CAP
    count = max(int(draws.numpy.poisson(demos / cap)), int(demos >= cap))
    return tuple(draws.python.randrange(demos) for _ in range(min(count, demos)))
