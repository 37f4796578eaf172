"""A run's randomness as plain data, which is stored with each plan and restored to the same next draw."""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from simba_actors.search.rollout import JSON

_WORDS = struct.Struct("<625I")
"""The state of Python's generator: 624 words, and the index of the next one."""


class Draws:
    """The two generators of `dspy.SIMBA`: Python's for picks and shuffles, NumPy's for Poisson counts.

    `Draws.from_json(draws.to_json())` continues with the same numbers. Both are seeded as in `dspy.SIMBA`, so that a
    run can be compared with it draw for draw.
    """

    def __init__(self, seed: int) -> None:
        self.python = random.Random(seed)  # noqa: S311 - reproducible search, no secret depends on it
        self.numpy = np.random.default_rng(seed)

    def to_json(self) -> dict[str, JSON]:
        version, internal, gauss = self.python.getstate()
        numpy_state = cast("dict[str, Any]", self.numpy.bit_generator.state)
        return {
            "python": [version, base64.b64encode(_WORDS.pack(*internal)).decode(), gauss],
            # PCG64's counters have 128 bits, more than JSON numbers hold everywhere.
            "numpy": {**numpy_state, "state": {name: str(value) for name, value in numpy_state["state"].items()}},
        }

    @classmethod
    def from_json(cls, state: JSON) -> Draws:
        stored = cast("dict[str, Any]", state)
        draws = cls(0)
        version, internal, gauss = stored["python"]
        # Earlier versions stored a list of numbers.
        words = _WORDS.unpack(base64.b64decode(internal)) if isinstance(internal, str) else tuple(internal)
        draws.python.setstate((version, words, gauss))
        numpy_state = stored["numpy"]
        draws.numpy.bit_generator.state = {
            **numpy_state,
            "state": {name: int(value) for name, value in numpy_state["state"].items()},
        }
        return draws


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """A shuffled order of the trainset, from which mini-batches are taken one slice at a time."""

    order: tuple[int, ...]
    """Indices of the examples."""
    used: int = 0
    """Number of entries already taken."""

    @classmethod
    def shuffled(cls, examples: Iterable[int], draws: random.Random) -> BatchOrder:
        """Shuffle these examples."""
        order = list(examples)
        draws.shuffle(order)
        return cls(tuple(order))

    def next_batch(self, bsize: int, draws: random.Random) -> tuple[tuple[int, ...], BatchOrder]:
        """Return the next `bsize` examples and the order after them.

        When fewer than `bsize` are left, those are skipped and all are shuffled again, as in `dspy.SIMBA`.
        """
        order, used = self.order, self.used
        if used + bsize > len(order):
            reshuffled = list(order)
            draws.shuffle(reshuffled)
            order, used = tuple(reshuffled), 0
        return order[used : used + bsize], BatchOrder(order, used + bsize)
