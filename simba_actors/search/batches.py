"""Mini-batches: the train rows in shuffled order, a slice at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """A shuffled order of the train rows, and how far it has been used up."""

    order: tuple[int, ...]
    used: int = 0

    @classmethod
    def shuffled(cls, size: int, draws: random.Random) -> BatchOrder:
        order = list(range(size))
        draws.shuffle(order)
        return cls(tuple(order))

    def next_batch(self, bsize: int, draws: random.Random) -> tuple[tuple[int, ...], BatchOrder]:
        """The next `bsize` rows and the order after them, shuffled anew first when fewer than `bsize` are left.

        The rows left over are skipped, as in `dspy.SIMBA`.
        """
        order, used = self.order, self.used
        if used + bsize > len(order):
            reshuffled = list(order)
            draws.shuffle(reshuffled)
            order, used = tuple(reshuffled), 0
        return order[used : used + bsize], BatchOrder(order, used + bsize)
