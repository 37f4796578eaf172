"""Measure a program on held-out examples."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

AT_ONCE = 8
Z95 = 1.96


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers, printed with its 95 % interval."""

    right: int
    asked: int

    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95 % score interval: https://doi.org/10.1080/01621459.1927.10502953."""
        share, n = self.right / self.asked, self.asked
        middle = share + Z95**2 / (2 * n)
        reach = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
        return (middle - reach) / (1 + Z95**2 / n), (middle + reach) / (1 + Z95**2 / n)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.right / self.asked:5.1%}  [{low:.1%}, {high:.1%}]"


async def accuracy(program: dspy.Module, examples: Sequence[Any], metric: Callable[..., bool]) -> Accuracy:
    """Run `program` on all examples, a few at once, and count those for which `metric` is true."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def is_right(example: Any) -> bool:
        async with turns:
            return metric(example, await program.acall(**example.inputs()))

    return Accuracy(sum(await asyncio.gather(*map(is_right, examples))), len(examples))
