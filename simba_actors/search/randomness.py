"""A run's randomness as plain data: drawn from, stored with a plan, and restored to the same next draw."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np

from simba_actors.search.trajectory import JSON


class Draws:
    """The two generators of SIMBA, side by side: Python's for picks and shuffles, NumPy's for Poisson counts.

    `Draws.from_json(draws.to_json())` goes on with the same numbers. The generators and their seeding are
    `dspy.SIMBA`'s, which is what makes a run comparable with it draw for draw.
    """

    def __init__(self, seed: int) -> None:
        self.python = random.Random(seed)  # noqa: S311 - reproducible search, no secret depends on it
        self.numpy = np.random.default_rng(seed)

    def to_json(self) -> dict[str, JSON]:
        version, internal, gauss = self.python.getstate()
        numpy_state = cast("dict[str, Any]", self.numpy.bit_generator.state)
        return {
            "python": [version, list(internal), gauss],
            # PCG64 counts in 128 bits, which JSON numbers do not hold everywhere.
            "numpy": {**numpy_state, "state": {name: str(value) for name, value in numpy_state["state"].items()}},
        }

    @classmethod
    def from_json(cls, state: JSON) -> Draws:
        stored = cast("dict[str, Any]", state)
        draws = cls(0)
        version, internal, gauss = stored["python"]
        draws.python.setstate((version, tuple(internal), gauss))
        numpy_state = stored["numpy"]
        draws.numpy.bit_generator.state = {
            **numpy_state,
            "state": {name: int(value) for name, value in numpy_state["state"].items()},
        }
        return draws
