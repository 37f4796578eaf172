"""The answers that the examples of a run call for, and those that demos show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from simba_actors.search.model.parts import Part
from simba_actors.search.statistics.linear_algebra import Indices, Matrix, Vector

RECURS = 3
"""Number of examples that must have a label for it to count as recurring."""

Answer: TypeAlias = frozenset[tuple[str, str]]
"""Labels, each as a field's name and its value."""


class Answers:
    """Answers that recur among examples, as those of a classification do, and the examples that call for each.

    Demos draw an LM towards the answers they show ("majority label bias": Zhao et al., "Calibrate before use: improving
    few-shot performance of language models", 2021), so what a demo does for an example depends on whether the example
    calls for the same answer. `labels` are those of each example.
    """

    def __init__(self, labels: Sequence[Mapping[str, str]]) -> None:
        with_label: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for n, own in enumerate(labels):
            for label in own.items():
                with_label[label].append(n)
        self._examples = len(labels)
        self._with_label = {label: np.array(own) for label, own in with_label.items() if len(own) >= RECURS}
        self._known: dict[Answer, Vector] = {}
        answers = [self.of(own) for own in labels]
        recur = [answer for answer, count in Counter(answers).items() if answer and count >= RECURS]
        self._number = {answer: n for n, answer in enumerate(recur)}
        groups = {answer: n for n, answer in enumerate(dict.fromkeys(answers))}
        self._group = np.array([groups[answer] for answer in answers], dtype=np.int64)
        self._shown: dict[str, int] = {}  # Numbers of answers, by part id.
        self.called_for = self._one_hot([self._number.get(answer, -1) for answer in answers])
        """A row for each example, with a 1 in the column of its answer if that recurs as a whole."""

    @property
    def count(self) -> int:
        """Number of answers that recur."""
        return len(self._number)

    def of(self, fields: Mapping[str, str]) -> Answer:
        """Return the recurring labels among the fields of an example or a demo: its answer."""
        return frozenset(label for label in fields.items() if label in self._with_label)

    def share_shown(self, answer: Answer) -> Vector:
        """Return the share of the labels of `answer` that each example calls for too, from 0 to 1."""
        if answer not in self._known:
            same = np.zeros(self._examples)
            for label in sorted(answer):
                same[self._with_label[label]] += 1 / len(answer)
            self._known[answer] = same
        return self._known[answer]

    def shown(self, parts: Sequence[Part]) -> Matrix:
        """Return a row for each part, with a 1 in the column of the answer that it shows, as in `called_for`."""
        for part in parts:
            if part.part_id not in self._shown:
                self._shown[part.part_id] = self._number.get(self.of(part.fields), -1)
        return self._one_hot([self._shown[part.part_id] for part in parts])

    def _one_hot(self, numbers: Sequence[int]) -> Matrix:
        """Return a row for each of these numbers of answers, with a 1 in the answer's column; for -1 it has none."""
        return (np.array(numbers, dtype=np.int64)[:, None] == np.arange(self.count)).astype(np.float64)

    def stratified_ranks(self, positions: Indices) -> Vector:
        """Return a rank for each of these examples that spreads every answer evenly.

        Any successive examples in the order of the ranks have the answers in about the shares of all examples. A
        program that gives one answer to everything can't be lucky on such a batch (stratified sampling: Neyman, "On the
        two different aspects of the representative method", 1934).
        """
        groups = self._group[positions]
        order = np.argsort(groups, kind="stable")
        counts = np.bincount(groups)
        firsts = np.cumsum(counts) - counts
        passed = np.empty(len(positions))
        passed[order] = np.arange(len(positions)) - firsts[groups[order]]
        return (passed + 0.5) / counts[groups]
