"""The examples of a run as the model sees them: which ones it uses, and what each part has to do with each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np

from simba_actors.search.model.answers import Answers
from simba_actors.search.model.parts import Part
from simba_actors.search.rollout import Split
from simba_actors.search.statistics.linear_algebra import Booleans, Indices, Matrix, Vector
from simba_actors.search.statistics.text_similarity import TextSimilarity

MOST_EXAMPLES = 2_000
"""Maximum number of examples of each split that a search uses: a random sample of a larger split. A mean over that many
is within 0.02 of the mean over all, and an example that few programs run on says little about any of them."""

PANEL = 256
"""Maximum number of training examples on which the model predicts scores."""


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
    means over its examples. `seed` decides which examples of a large split are used.
    """

    def __init__(self, train: Sequence[ExampleText], val: Sequence[ExampleText] = (), seed: int = 0) -> None:
        self.train, self.val = _sample(len(train), seed), _sample(len(val), seed)
        """Indices into each split of the examples that are used, in the order of their positions."""
        self.panel = min(PANEL, len(self.train))
        """Number of examples of the panel."""
        self.count = len(self.train) + len(self.val)
        """Number of examples that are used."""
        self._positions: dict[Split, Indices] = {
            "train": _positions(self.train, len(train), 0),
            "val": _positions(self.val, len(val), len(self.train)),
        }
        self._texts = train, val

    @cached_property
    def similarity(self) -> TextSimilarity:
        return TextSimilarity([text.text for text in self._used])

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
        return _Table(self.count, lambda part: self.similarity.of(part.text))

    @cached_property
    def _shown(self) -> _Table:
        return _Table(self.count, lambda part: self.answers.share_shown(self.answers.of(part.fields)))

    def positions(self, split: Split, examples: Indices) -> Indices:
        """Return the position of each example of the split, -1 for those that the search doesn't use."""
        return self._positions[split][examples]

    def positions_of(self, validation: Booleans, examples: Indices) -> Indices:
        """Return the position of each example. It is one of the valset where `validation` is true."""
        positions = np.empty(len(examples), dtype=np.int64)
        positions[validation] = self.positions("val", examples[validation])
        positions[~validation] = self.positions("train", examples[~validation])
        return positions

    def evenly_spread(self, split: Split, examples: Sequence[int]) -> list[int]:
        """Return `examples` of the split in an order that spreads each answer evenly."""
        positions = self._positions[split][np.array(examples, dtype=np.int64)]
        rank = self.answers.stratified_ranks(positions)
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
        self._at: dict[str, int] = {}  # The row of each part, by part id.
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
    """Return the indices to use of a split with `count` examples: all in order, or a random sample in random order."""
    if count <= PANEL:
        return tuple(range(count))
    draws = random.Random(seed)  # noqa: S311 - reproducible search, no secret depends on it
    return tuple(draws.sample(range(count), min(count, MOST_EXAMPLES)))  # Random order, since the panel is the front.


def _positions(used: Sequence[int], count: int, first: int) -> Indices:
    """Return the position of each of `count` examples: from `first` on for those that are used, -1 for the others."""
    positions = np.full(count, -1, dtype=np.int64)
    positions[list(used)] = np.arange(first, first + len(used))
    return positions
