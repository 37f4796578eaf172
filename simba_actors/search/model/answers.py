"""Which examples call for the answer that a demo gives, where answers recur as labels do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from simba_actors.search.model.estimation import Matrix, Vector

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
        called_for = [frozenset(self._recurring & row.items()) for row in rows]
        recur = [answer for answer, count in Counter(called_for).items() if answer and count >= RECURS]
        self._number = {answer: n for n, answer in enumerate(recur)}
        self.called_for: Matrix = np.array([self._one_of(answer) for answer in called_for]).reshape(
            len(rows), len(recur)
        )
        """A row for each example, with a 1 in the column of its answer, if that recurs as a whole."""

    @property
    def count(self) -> int:
        """How many answers recur."""
        return len(self._number)

    def to_rows(self, fields: Mapping[str, str]) -> Vector:
        """The share of a demo's recurring answers that each row calls for too, from 0 to 1."""
        shown = frozenset(self._recurring & fields.items())
        if shown not in self._known:
            same = [len(shown & row.items()) / max(len(shown), 1) for row in self._rows]
            self._known[shown] = np.array(same, dtype=np.float64)
        return self._known[shown]

    def shown(self, fields: Mapping[str, str]) -> Vector:
        """A 1 for the answer that a demo shows, as in `called_for`."""
        return self._one_of(frozenset(self._recurring & fields.items()))

    def _one_of(self, answer: frozenset[tuple[str, str]]) -> Vector:
        one = np.zeros(len(self._number))
        if answer in self._number:
            one[self._number[answer]] = 1.0
        return one

    def evenly_spread(self, order: Sequence[int]) -> list[int]:
        """The rows of `order`, so that any few in succession call for the different answers as often as all of them do.

        A program that gives one answer to everything can't be lucky on those (stratified sampling: Neyman, "On the two
        different aspects of the representative method", 1934).
        """
        calls_for = {row: frozenset(self._recurring & self._rows[row].items()) for row in order}
        rows, passed = Counter(calls_for.values()), Counter[frozenset[tuple[str, str]]]()
        places: dict[int, float] = {}
        for row, answer in calls_for.items():
            places[row] = (passed[answer] + 0.5) / rows[answer]
            passed[answer] += 1
        return sorted(order, key=places.__getitem__)
