"""The random choices of `dspy.SIMBA`: which program to take next, and which demos to forget."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from simba_actors.search.randomness import Draws
from simba_actors.search.rollout import STUDENT

DEMO_CAP_WHEN_ZERO = 3
"""The cap that `dspy.SIMBA` assumes for dropping demos when none may be added, so that the student's own disappear."""


def top_k_with_student(means: Sequence[tuple[int, float]], k: int) -> list[int]:
    """Return the `k` best programs, best first; the student takes the last place if it is not among them.

    `means` lists (program number, mean score) in order of registration, which breaks ties.
    """
    ranked = sorted(means, key=lambda entry: entry[1], reverse=True)
    top = [number for number, _ in ranked[:k]]
    if top and STUDENT not in top:
        top[-1] = STUDENT
    return top


def softmax_sample(draws: random.Random, programs: Sequence[int], means: Sequence[float], temperature: float) -> int:
    """Draw one of `programs`, with probability proportional to exp(mean / temperature).

    Where the exponentials overflow, they are taken relative to the best score; otherwise the arithmetic is
    `dspy.SIMBA`'s to the bit, so that the draws are too. A temperature of 0 takes the first of the best programs.
    """
    if temperature == 0:
        return programs[max(range(len(programs)), key=means.__getitem__)]
    with np.errstate(over="ignore"):
        weights = [np.exp(mean / temperature) for mean in means]
    total = sum(weights)
    if math.isinf(total):
        best = max(means)
        weights = [np.exp((mean - best) / temperature) for mean in means]
        total = sum(weights)
    if total <= 0:
        return draws.choice(programs)
    return draws.choices(programs, weights=[weight / total for weight in weights], k=1)[0]


def demos_to_drop(demos: int, cap: int, draws: Draws) -> tuple[int, ...]:
    """Draw the indices of demos to drop from each predictor of a program whose longest list has `demos` of them.

    The count is Poisson(demos / cap), and at least 1 when the `cap` is reached. Indices are drawn with replacement, as
    `dspy.SIMBA` draws them, so fewer demos than that may be dropped.
    """
    cap = cap if cap > 0 else DEMO_CAP_WHEN_ZERO
    count = max(int(draws.numpy.poisson(demos / cap)), int(demos >= cap))
    return tuple(draws.python.randrange(demos) for _ in range(min(count, demos)))
