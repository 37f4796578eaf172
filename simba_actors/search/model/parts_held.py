"""The parts of each program as a ragged array, for sums over many programs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from simba_actors.search.statistics.linear_algebra import (
    Booleans,
    Indices,
    Matrix,
    Vector,
    concatenated_ranges,
    members_by_rank,
)


@dataclass(frozen=True)
class PartsHeld:
    """The parts of programs, by index, in one flat array: compressed rows, as in a sparse matrix (CSR).

    Most programs have only a few of many parts.
    """

    counts: Indices
    """Number of parts of each program."""
    flat: Indices
    """The parts of all programs one after another, each program's in the order of its prompt."""

    @classmethod
    def of(cls, programs: Sequence[Sequence[int]]) -> PartsHeld:
        counts = np.array([len(parts) for parts in programs], dtype=np.int64)
        return cls(counts, np.array([part for parts in programs for part in parts], dtype=np.int64))

    @cached_property
    def program(self) -> Indices:
        """The program that each entry of `flat` belongs to."""
        return cast("Indices", np.repeat(np.arange(len(self.counts)), self.counts))

    def only(self, wanted: Booleans) -> PartsHeld:
        """Return a copy with only the `wanted` parts; `wanted` has a truth value for each part."""
        kept = wanted[self.flat]
        return PartsHeld(np.bincount(self.program[kept], minlength=len(self.counts)), self.flat[kept])

    def weight_by_part(self, weight: Indices, count: int) -> Vector:
        """Return, for each of all `count` parts, the sum of the weights of the programs that have it."""
        return cast("Vector", np.bincount(self.flat, np.repeat(weight, self.counts), count))

    def matrix(self, parts: Indices, count: int) -> Matrix:
        """Return a row for each program, with a 1 for each of these parts that it has, of `count` in all."""
        column = np.full(count, -1, dtype=np.int64)
        column[parts] = np.arange(len(parts))
        own = column[self.flat]
        held = np.zeros((len(self.counts), len(parts)))
        held[self.program[own >= 0], own[own >= 0]] = 1.0
        return held

    def sums(self, values: Matrix, programs: Indices) -> Matrix:
        """Return for each of these programs the sum of its parts' rows of `values`."""
        return self._combined(np.add, values, programs)

    def maxima(self, values: Matrix, programs: Indices) -> Matrix:
        """Return for each of these programs the maximum of its parts' rows of `values`, 0 if it has none."""
        return self._combined(np.maximum, values, programs)

    def _combined(self, function: np.ufunc, values: Matrix, programs: Indices) -> Matrix:
        order, members = members_by_rank(self.counts[programs], self._starts[programs])
        ordered = np.zeros((len(programs), values.shape[1]))
        for own in members:
            function(ordered[: len(own)], values[self.flat[own]], out=ordered[: len(own)])
        combined = np.empty_like(ordered)
        combined[order] = ordered
        return combined

    def sums_and_maxima_at(self, values: Matrix, programs: Indices, columns: Indices) -> tuple[Vector, Vector]:
        """Return the sum and the maximum, over the parts of each program, of their entries in `values`.

        Entry n of `columns` is the column to look at for entry n of `programs`. Both results are 0 for a program
        without parts.
        """
        own, parts = self.entries(programs)
        entries = values[parts, columns[own]]
        maxima = np.zeros(len(programs))
        if len(own):
            starts = np.flatnonzero(np.diff(own, prepend=-1))
            maxima[own[starts]] = np.maximum.reduceat(entries, starts)
        return cast("Vector", np.bincount(own, entries, len(programs))), maxima

    def entries(self, programs: Indices) -> tuple[Indices, Indices]:
        """Return the index in `programs` that each part of these programs belongs to, and the part."""
        counts = self.counts[programs]
        own = np.repeat(np.arange(len(programs)), counts)
        return own, self.flat[concatenated_ranges(self._starts[programs], counts)]

    @cached_property
    def _starts(self) -> Indices:
        """Index in `flat` of the first part of each program."""
        return cast("Indices", np.cumsum(self.counts) - self.counts)

    def positions_from_end(self, group: Indices) -> Indices:
        """Return how many parts of the same group and program come after each entry of `flat`.

        `group` has the group of each part.
        """
        key = self.program * (int(group.max(initial=0)) + 1) + group[self.flat]
        order = np.argsort(key, kind="stable")
        counts = np.bincount(key)
        last = np.cumsum(counts) - 1
        behind = np.empty(len(key), dtype=np.int64)
        behind[order] = last[key[order]] - np.arange(len(key))
        return cast("Indices", behind)
