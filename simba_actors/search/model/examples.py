"""The examples of a run as the model sees them: what they are about, and which answers they call for."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np

from simba_actors.search.model.parts import Part
from simba_actors.search.rollout import Split
from simba_actors.search.statistics.linear_algebra import Booleans, Indices, Matrix, Vector, concatenated_ranges

MOST_EXAMPLES = 2_000
"""Maximum number of examples of each split that a search uses: a random sample of a larger split. A mean over that many
is within 0.02 of the mean over all, and an example that few programs run on says little about any of them."""

PANEL = 256
"""Maximum number of training examples on which the model predicts scores."""

RECURS = 3
"""Number of examples that must have a label for it to count as recurring."""

WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class ExampleText:
    """An example as text."""

    text: str
    """All fields, one after another."""
    labels: Mapping[str, str]
    """The labels by field name."""


class Examples:
    """The examples that a search uses, each with a position in the model's matrices.

    Train examples come first, then those of the valset. The panel is at the front: predicted scores of programs are
    means over its examples.
    """

    def __init__(self, train: Sequence[ExampleText], val: Sequence[ExampleText] = (), seed: int = 0) -> None:
        self.train, self.val = _sample(len(train), seed), _sample(len(val), seed)
        self.panel = min(PANEL, len(self.train))
        self.count = len(self.train) + len(self.val)
        self._positions: dict[Split, Indices] = {
            "train": _positions(self.train, len(train), 0),
            "val": _positions(self.val, len(val), len(self.train)),
        }
        self._texts = train, val

    @cached_property
    def similarity(self) -> Similarity:
        return Similarity([text.text for text in self._used])

    @cached_property
    def answers(self) -> Answers:
        return Answers([text.labels for text in self._used])

    @cached_property
    def _used(self) -> list[ExampleText]:
        train, val = self._texts
        return [*(train[n] for n in self.train), *(val[n] for n in self.val)]

    def relevance(self, parts: Sequence[Part]) -> RowsOfParts:
        """Return the relevance of each part to each example, from 0 to 1: how similar their words are."""
        return self._relevance.of(parts)

    def shown_by(self, parts: Sequence[Part]) -> RowsOfParts:
        """Return how much of each example's answer each part shows, from 0 to 1."""
        return self._shown.of(parts)

    @cached_property
    def _relevance(self) -> _Table:
        return _Table(self.count, lambda part: self.similarity.to_rows(part.text))

    @cached_property
    def _shown(self) -> _Table:
        return _Table(self.count, lambda part: self.answers.to_rows(self.answers.of(part.fields)))

    def positions(self, split: Split, examples: Indices) -> Indices:
        """Return the position of each example of the split, -1 for those that the search doesn't use."""
        return self._positions[split][examples]

    def positions_of(self, validation: Booleans, examples: Indices) -> Indices:
        """Return the position of each example, which is of the valset where `validation` is true."""
        positions = np.empty(len(examples), dtype=np.int64)
        positions[validation] = self.positions("val", examples[validation])
        positions[~validation] = self.positions("train", examples[~validation])
        return positions

    def evenly_spread(self, split: Split, examples: Sequence[int]) -> list[int]:
        """Return `examples` of the split in an order that spreads each answer evenly."""
        positions = self._positions[split][np.array(examples, dtype=np.int64)]
        rank = self.answers.spread(positions)
        return [examples[n] for n in np.argsort(rank, kind="stable")]


@dataclass(frozen=True, slots=True)
class RowsOfParts:
    """A row for each of some parts, with an entry for each example."""

    table: Matrix
    """The rows of these and other parts."""
    at: Indices
    """The row of each part in the table."""
    largest: Vector
    """The largest entry of each part."""

    def panel(self, examples: int) -> Matrix:
        """Return the entries of the first examples."""
        return self.table[:, :examples][self.at]

    def whole(self, parts: Indices) -> Matrix:
        """Return the rows of these parts, given by their indices."""
        return self.table[self.at[parts]]


class _Table:
    """A row for each part that was ever asked about.

    All models share the table. It can hold 1,000 rows of 2,000 examples, too much to copy for each model.
    """

    def __init__(self, examples: int, row_of: Callable[[Part], Vector]) -> None:
        self._row_of = row_of
        self._at: dict[str, int] = {}
        self._rows = np.zeros((64, examples))
        self._largest: list[float] = []
        self._lock = Lock()  # A publisher may look up parts at the same time as the run.

    def of(self, parts: Sequence[Part]) -> RowsOfParts:
        with self._lock:
            for part in parts:
                if part.part_id not in self._at:
                    self._add(part)
            at = np.array([self._at[part.part_id] for part in parts], dtype=np.int64)
            return RowsOfParts(self._rows, at, np.array(self._largest)[at])

    def _add(self, part: Part) -> None:
        row, at = self._row_of(part), len(self._at)
        if at == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._rows[at] = row
        self._at[part.part_id] = at
        self._largest.append(float(row.max(initial=0.0)))


def _sample(count: int, seed: int) -> tuple[int, ...]:
    if count <= PANEL:
        return tuple(range(count))
    draws = random.Random(seed)  # noqa: S311 - reproducible search, no secret depends on it
    return tuple(draws.sample(range(count), min(count, MOST_EXAMPLES)))  # In random order: the panel is its front.


def _positions(used: Sequence[int], count: int, first: int) -> Indices:
    positions = np.full(count, -1, dtype=np.int64)
    positions[list(used)] = np.arange(first, first + len(used))
    return positions


class Similarity:
    """Cosine similarity of texts to a fixed set of rows, over words weighted by inverse document frequency.

    The weights are those of Salton and Buckley ("Term-weighting approaches in automatic text retrieval", 1988). Words
    that only one row has are left out, since they say nothing about other rows.
    """

    def __init__(self, rows: Sequence[str]) -> None:
        self.rows = len(rows)
        # All of this goes row by row: a single call for all rows would keep other threads waiting until it ends.
        words = [list(dict.fromkeys(WORD.findall(row.lower()))) for row in rows]
        documents = Counter[str]()
        for row in words:
            documents.update(row)
        self._number = {word: n for n, word in enumerate(word for word, count in documents.items() if count > 1)}
        weight = np.array([math.log(len(rows) / documents[word]) for word in self._number])
        known = [
            np.array([self._number[word] for word in row if word in self._number], dtype=np.int64) for row in words
        ]
        row_of = np.repeat(np.arange(len(rows)), [len(row) for row in known])
        word_of = np.concatenate([np.zeros(0, dtype=np.int64), *known])
        values = weight[word_of]
        norms = np.sqrt(np.bincount(row_of, values**2, self.rows))
        by_word = np.argsort(word_of, kind="stable")
        self._row = row_of[by_word]
        self._product: Vector = (values / np.maximum(norms, 1e-300)[row_of] * values)[by_word]
        """What each row that has a word gains in similarity to a text that has the word too."""
        self._count = np.bincount(word_of, minlength=len(self._number))
        self._first = np.cumsum(self._count) - self._count
        """Where the rows that have a word begin, by its number, and how many there are."""

    def to_rows(self, text: str) -> Vector:
        """Return the similarity of each row to `text`, from 0 to 1, scaled so that the most similar row is at 1."""
        words = set(WORD.findall(text.lower()))
        own = np.array(sorted(self._number[word] for word in words if word in self._number), dtype=np.int64)
        at = concatenated_ranges(self._first[own], self._count[own])
        similarity = np.bincount(self._row[at], self._product[at], self.rows)
        nearest = float(similarity.max(initial=0.0))
        return similarity / nearest if nearest > 0 else np.zeros(self.rows)


class Answers:
    """Answers that recur, as labels do, and the examples that call for each.

    Demos draw an LM towards the answers they show ("majority label bias": Zhao et al., "Calibrate before use: improving
    few-shot performance of language models", 2021), so what a demo does for an example depends on whether the example
    calls for the same answer. `rows` are the labels of each example.
    """

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        with_label: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for n, row in enumerate(rows):
            for label in row.items():
                with_label[label].append(n)
        self.rows = len(rows)
        self._with_label = {label: np.array(own) for label, own in with_label.items() if len(own) >= RECURS}
        self._known: dict[frozenset[tuple[str, str]], Vector] = {}
        answers = [self.of(row) for row in rows]
        recur = [answer for answer, count in Counter(answers).items() if answer and count >= RECURS]
        self._number = {answer: n for n, answer in enumerate(recur)}
        groups = {answer: n for n, answer in enumerate(dict.fromkeys(answers))}
        self._group = np.array([groups[answer] for answer in answers], dtype=np.int64)
        self._shown: dict[str, int] = {}  # Numbers of answers, by part id.
        self.called_for = self._one_of([self._number.get(answer, -1) for answer in answers])
        """A row for each example, with a 1 in the column of its answer if that recurs as a whole."""

    @property
    def count(self) -> int:
        """Number of answers that recur."""
        return len(self._number)

    def of(self, fields: Mapping[str, str]) -> frozenset[tuple[str, str]]:
        """Return the recurring labels among the fields of an example or a demo: its answer."""
        return frozenset(label for label in fields.items() if label in self._with_label)

    def to_rows(self, answer: frozenset[tuple[str, str]]) -> Vector:
        """Return the share of the labels of `answer` that each row calls for too, from 0 to 1."""
        if answer not in self._known:
            same = np.zeros(self.rows)
            for label in sorted(answer):
                same[self._with_label[label]] += 1 / len(answer)
            self._known[answer] = same
        return self._known[answer]

    def shown(self, parts: Sequence[Part]) -> Matrix:
        """Return a row for each part, with a 1 in the column of the answer that it shows, as in `called_for`."""
        for part in parts:
            if part.part_id not in self._shown:
                self._shown[part.part_id] = self._number.get(self.of(part.fields), -1)
        return self._one_of([self._shown[part.part_id] for part in parts])

    def _one_of(self, numbers: Sequence[int]) -> Matrix:
        """Return a row for each of these numbers of answers, with a 1 in the answer's column; -1 is none of them."""
        return (np.array(numbers, dtype=np.int64)[:, None] == np.arange(self.count)).astype(np.float64)

    def spread(self, rows: Indices) -> Vector:
        """Return a rank for each of `rows`, such that any few in succession have the same shares of answers as all.

        A program that gives one answer to everything can't be lucky on such a batch (stratified sampling: Neyman, "On
        the two different aspects of the representative method", 1934).
        """
        groups = self._group[rows]
        order = np.argsort(groups, kind="stable")
        counts = np.bincount(groups)
        firsts = np.cumsum(counts) - counts
        passed = np.empty(len(rows))
        passed[order] = np.arange(len(rows)) - firsts[groups[order]]
        return (passed + 0.5) / counts[groups]
