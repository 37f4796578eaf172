"""Which program of the pool to take next, from the programs' mean scores."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from simba_actors.search.policy import STUDENT


def top_k_with_student(means: Sequence[tuple[int, float]], k: int) -> list[int]:
    """The numbers of the `k` best programs, best first, with the student in the last place if it is not among them.

    `means` lists (program number, mean score) in order of registration, which breaks ties; the student is number 0.
    """
    ranked = sorted(means, key=lambda entry: entry[1], reverse=True)
    top = [number for number, _ in ranked[:k]]
    if top and STUDENT not in top:
        top[-1] = STUDENT
    return top


def softmax_sample(draws: random.Random, programs: Sequence[int], means: Sequence[float], temperature: float) -> int:
    """One of `programs`, with probability proportional to exp(mean / temperature).

    Scores of any size are fine: where the plain exponentials overflow, they are taken relative to the best score,
    and a temperature of 0 takes the first of the best. Without overflow the arithmetic is `dspy.SIMBA`'s to the bit,
    so the draws are too.
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
