"""Which parts programs are made of, and the design matrix of the model that follows from it.

The columns of the matrix are those that `effects` lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import cast

import numpy as np

from simba_actors.search.model.answer_order import AnswerOrder
from simba_actors.search.model.effects import CROWDING, CROWDING_SCALE, LEVEL, PARTS, RULES, SAME_ANSWER, SHOWN
from simba_actors.search.model.examples import Examples
from simba_actors.search.model.parts import UNCOUNTED, Part
from simba_actors.search.model.parts_held import PartsHeld
from simba_actors.search.statistics.linear_algebra import Float32Array, Indices, Matrix, Vector, matvec

CHUNK = 4096
"""Number of scores or programs whose parts are looked up at a time."""


class Composition:
    """The parts that programs are made of, as matrices. Parts are given by their indices in `parts`.

    `programs` maps the number of each program to its parts, in the order of its prompt. `settings` are further parts,
    which no program needs to have.
    """

    def __init__(
        self, programs: Mapping[int, Sequence[Part]], examples: Examples, settings: Sequence[Part] = ()
    ) -> None:
        known = {part.part_id: part for parts in (*programs.values(), settings) for part in parts}
        self.parts = tuple(known.values())
        index = {part_id: n for n, part_id in enumerate(known)}
        self.programs = {number: tuple(index[part.part_id] for part in parts) for number, parts in programs.items()}
        """The parts of each program by its number."""
        self.row = {program: row for row, program in enumerate(self.programs)}
        """The row of each program in the matrices."""
        self.panel = examples.panel
        self.relevance = examples.relevance(self.parts)
        """Relevance of each part to each example, from 0 to 1."""
        self.relevance_on_panel: Matrix = self.relevance.panel(self.panel)
        """Relevance of each part to each example of the panel."""
        self._shown_by = examples.shown_by(self.parts)
        self.shows: Matrix = self._shown_by.panel(self.panel)
        """Share of each panel example's answer that each part shows, from 0 to 1."""
        self.specific = self.relevance.largest > 0
        """Whether each part is about some examples more than about others."""
        self.holds = PartsHeld.of(list(self.programs.values()))
        self.demos_held = self.holds.only(np.array([part.kind == "demo" for part in self.parts], dtype=np.bool_))
        self.order = AnswerOrder(self.parts, examples.answers, self.demos_held)
        self.length, self.demos = self._lengths_of_programs()
        """The `lengths` of each program (a row), and the number of its demos for each predictor."""

    @cached_property
    def mean_relevance(self) -> Vector:
        """Mean relevance of each part to the examples of the panel."""
        return cast("Vector", self.relevance_on_panel.mean(axis=1))

    def answers_shown(self, parts: Sequence[int]) -> Vector:
        """Return how much of each panel example's answer is shown by any of these parts, from 0 to 1."""
        return self.shows[list(parts)].max(axis=0, initial=0.0)

    def answers_shown_by(self, programs: Indices) -> Matrix:
        """Return how much of each panel example's answer each of these programs shows."""
        return self.demos_held.maxima(self.shows, programs)

    def answers_shown_at(self, programs: Indices, examples: Indices) -> tuple[Vector, Vector]:
        """Return how much of the example's answer each program's demos show: all together, and the best one."""
        held = PartsHeld(self.demos_held.counts, self._shown_by.at[self.demos_held.flat])
        return held.sums_and_maxima_at(self._shown_by.table, programs, examples)

    def lengths(self, parts: Sequence[int]) -> tuple[float, float, float]:
        """Return the entries of the columns `RULES`, `DEMOS` and `CROWDING` for a prompt with these parts.

        They are sums over predictors: of the number of rules, of that of demos, and of the square of both together
        divided by `CROWDING_SCALE`. Instructions in place of the student's count as a rule.
        """
        rules, demos = Counter[str](), Counter[str]()
        for index in parts:
            part = self.parts[index]
            if part.kind not in UNCOUNTED:
                (demos if part.kind == "demo" else rules)[part.predictor] += 1
        crowding = sum(count**2 for count in (rules + demos).values()) / CROWDING_SCALE
        return rules.total(), demos.total(), crowding

    def _lengths_of_programs(self) -> tuple[Matrix, Matrix]:
        """Return the same as `lengths` for each program, and the number of its demos by predictor."""
        predictors = {name: n for n, name in enumerate(dict.fromkeys(part.predictor for part in self.parts))}
        demo = np.array([part.kind == "demo" for part in self.parts], dtype=np.int64)
        group = np.array([2 * predictors[part.predictor] for part in self.parts], dtype=np.int64) + demo
        counted = self.holds.only(np.array([part.kind not in UNCOUNTED for part in self.parts], dtype=np.bool_))
        programs, groups = len(self.programs), 2 * max(len(predictors), 1)
        key = counted.program * groups + group[counted.flat]
        counts = np.bincount(key, minlength=programs * groups).reshape(programs, -1, 2).astype(np.float64)
        rules, demos = counts[:, :, 0], counts[:, :, 1]
        crowding = ((rules + demos) ** 2).sum(axis=1) / CROWDING_SCALE
        return np.column_stack([rules.sum(axis=1), demos.sum(axis=1), crowding]), demos


class Design:
    """The design matrix for rollouts of the programs of a `Composition`.

    `active` are the parts that are fitted, and so have columns. `settled` has the effects of every other part in two
    columns, everywhere and nearby.
    """

    def __init__(self, composition: Composition, active: Indices, settled: Matrix) -> None:
        self._composition, self._active, self._settled = composition, active, settled

    def rows(self, program: Indices, example: Indices, with_order: bool) -> tuple[Float32Array, Vector]:
        """Return a row of the design, and the effect of the parts that are not fitted, for each program on its example.

        Programs are given by their rows in the composition, and the column `RESAMPLED` is left at 0. `with_order` adds
        the columns of the order of answers at the end.
        """
        active = len(self._active)
        order_start = PARTS + 2 * active
        columns = order_start + with_order * self._composition.order.columns
        design: Float32Array = np.zeros((len(example), columns), dtype=np.float32)
        offset = np.zeros(len(example))
        for start in range(0, len(example), CHUNK):
            chunk = slice(start, start + CHUNK)
            rows, on = program[chunk], example[chunk]
            own = design[chunk]
            own[:, LEVEL] = 1.0
            own[:, RULES : CROWDING + 1] = self._composition.length[rows]
            own[:, SAME_ANSWER], own[:, SHOWN] = self._composition.answers_shown_at(rows, on)
            own[:, PARTS : PARTS + active] = held = self._active_held[rows]
            own[:, PARTS + active : order_start] = held * self._active_relevance[on]
            if with_order:
                own[:, order_start:] = self._composition.order.design(self._composition.order.placements[rows], on)
            offset[chunk] = self._settled_at(rows, on)
        return design, offset

    def slope(self, program: int, weight: Vector) -> Vector:
        """Return the weighted sum of the program's rows of the design, one for each example of the panel."""
        row, active, total = self._composition.row[program], len(self._active), float(weight.sum())
        order_start = PARTS + 2 * active
        slope = np.zeros(order_start + self._composition.order.columns)
        slope[LEVEL] = total
        slope[RULES : CROWDING + 1] = self._composition.length[row] * total
        demos = [part for part in self._composition.programs[program] if self._composition.parts[part].kind == "demo"]
        slope[SAME_ANSWER] = (self._composition.shows[demos] * weight).sum()
        slope[SHOWN] = (self._composition.answers_shown(demos) * weight).sum()
        held = self._active_held[row]
        slope[PARTS : PARTS + active] = held * total
        slope[PARTS + active : order_start] = held * matvec(self._active_relevance[: self._composition.panel].T, weight)
        slope[order_start:] = self._composition.order.slope(self._composition.order.placements[row], weight)
        return slope

    def _settled_at(self, programs: Indices, examples: Indices) -> Vector:
        """Return the effect on the example of all parts of each program that are not fitted."""
        own, parts = self._settled_held.entries(programs)
        relevance = self._composition.relevance
        on_example = relevance.table[relevance.at[parts], examples[own]]
        effect = self._settled[parts, 0] + self._settled[parts, 1] * on_example
        return cast("Vector", np.bincount(own, effect, len(programs)))

    @cached_property
    def _active_relevance(self) -> Float32Array:
        """Relevance of each active part (column) to each example (row), from 0 to 1."""
        return self._composition.relevance.whole(self._active).T.astype(np.float32, order="C")

    @cached_property
    def _active_held(self) -> Float32Array:
        """Matrix with a row per program and a 1 for each active part that it has."""
        return self._composition.holds.matrix(self._active, len(self._composition.parts)).astype(np.float32)

    @cached_property
    def _settled_held(self) -> PartsHeld:
        return self._composition.holds.only(np.abs(self._settled).max(axis=1, initial=0.0) > 0)
