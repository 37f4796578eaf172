"""Which examples call for the answer that a demo gives, where answers recur as labels do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from simba_actors.algorithm.estimation import Vector

RECURS = 3
"""Rows that must call for an answer before demos of it are told apart from others."""


class Answers:
    """Demos draw an LM towards the answers that they show ("majority label bias": Zhao et al., "Calibrate before use:
    improving few-shot performance of language models", 2021), so that what a demo does for an example depends on
    whether that calls for the same answer. `rows` are the labels of each example.
    """

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        self._rows = rows
        counts = Counter(label for row in rows for label in row.items())
        self._recurring = {label for label, count in counts.items() if count >= RECURS}
        self._known: dict[frozenset[tuple[str, str]], Vector] = {}

    def to_rows(self, fields: Mapping[str, str]) -> Vector:
        """The share of a demo's recurring answers that each row calls for too, from 0 to 1."""
        shown = frozenset(self._recurring & fields.items())
        if shown not in self._known:
            same = [len(shown & row.items()) / max(len(shown), 1) for row in self._rows]
            self._known[shown] = np.array(same, dtype=np.float64)
        return self._known[shown]
