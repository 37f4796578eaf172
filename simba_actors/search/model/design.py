"""Which parts programs are made of, and the design matrix that follows for the model of parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import cast

import numpy as np

from simba_actors.search.model.answer_order import AnswerOrder
from simba_actors.search.model.effects import CROWD, CROWDING, LEVEL, PARTS, RULES, SAME_ANSWER, SHOWN
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
        self.nearness = examples.near(self.parts)
        """Relevance of each part to each example, from 0 to 1."""
        self.near: Matrix = self.nearness.panel(self.panel)
        """Relevance of each part to each example of the panel."""
        self._shown_by = examples.shown_by(self.parts)
        self.shows: Matrix = self._shown_by.panel(self.panel)
        """Share of each panel example's answer that each part shows, from 0 to 1."""
        self.specific = self.nearness.largest > 0
        """Whether each part is about some examples more than about others."""
        self.holds = PartsHeld.of(list(self.programs.values()))
        self.demos_held = self.holds.only(np.array([part.kind == "demo" for part in self.parts], dtype=np.bool_))
        self.order = AnswerOrder(self.parts, examples.answers, self.demos_held)
        self.length, self.demos = self._lengths_of_programs()

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
        """Return the number of rules, that of demos, and the square of their sum / `CROWD`, summed over predictors."""
        counts: dict[str, list[int]] = {}
        for index in parts:
            part = self.parts[index]
            if part.kind not in UNCOUNTED:
                counts.setdefault(part.predictor, [0, 0])[part.kind == "demo"] += 1
        crowd = sum((rules + demos) ** 2 for rules, demos in counts.values()) / CROWD
        return sum(rules for rules, _ in counts.values()), sum(demos for _, demos in counts.values()), crowd

    def _lengths_of_programs(self) -> tuple[Matrix, Matrix]:
        """Return the `lengths` of each program, and the number of its demos by predictor."""
        predictors = {name: n for n, name in enumerate(dict.fromkeys(part.predictor for part in self.parts))}
        demo = np.array([part.kind == "demo" for part in self.parts], dtype=np.int64)
        group = np.array([2 * predictors[part.predictor] for part in self.parts], dtype=np.int64) + demo
        counted = self.holds.only(np.array([part.kind not in UNCOUNTED for part in self.parts], dtype=np.bool_))
        programs, groups = len(self.programs), 2 * max(len(predictors), 1)
        key = counted.program * groups + group[counted.flat]
        counts = np.bincount(key, minlength=programs * groups).reshape(programs, -1, 2).astype(np.float64)
        rules, demos = counts[:, :, 0], counts[:, :, 1]
        crowd = ((rules + demos) ** 2).sum(axis=1) / CROWD
        return np.column_stack([rules.sum(axis=1), demos.sum(axis=1), crowd]), demos


class Design:
    """The columns of the model for rollouts of the programs of a `Composition`.

    `active` are the parts that are fitted. `settled` has the effects of every other part, everywhere and nearby.
    """

    def __init__(self, composition: Composition, active: Indices, settled: Matrix) -> None:
        self._composition, self._active, self._settled = composition, active, settled

    def rows(self, program: Indices, example: Indices, with_order: bool) -> tuple[Float32Array, Vector]:
        """Return a row of the design, and an offset, for each rollout of a program on an example.

        Programs are given by their rows in the composition, and run as in use: without resampling. `with_order` adds
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
            own[:, PARTS + active : order_start] = held * self._near_active[on]
            if with_order:
                own[:, order_start:] = self._composition.order.design(self._composition.order.standings[rows], on)
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
        slope[PARTS + active : order_start] = held * matvec(self._near_active[: self._composition.panel].T, weight)
        slope[order_start:] = self._composition.order.slope(self._composition.order.standings[row], weight)
        return slope

    def _settled_at(self, programs: Indices, examples: Indices) -> Vector:
        """Return the effect on the example of all parts of each program that are not fitted."""
        own, parts = self._settled_held.entries(programs)
        nearness = self._composition.nearness
        near = nearness.table[nearness.at[parts], examples[own]]
        effect = self._settled[parts, 0] + self._settled[parts, 1] * near
        return cast("Vector", np.bincount(own, effect, len(programs)))

    @cached_property
    def _near_active(self) -> Float32Array:
        """Relevance of each active part (column) to each example (row), from 0 to 1."""
        return self._composition.nearness.whole(self._active).T.astype(np.float32, order="C")

    @cached_property
    def _active_held(self) -> Float32Array:
        """Matrix with a row per program and a 1 for each active part that it has."""
        return self._composition.holds.matrix(self._active, len(self._composition.parts)).astype(np.float32)

    @cached_property
    def _settled_held(self) -> PartsHeld:
        return self._composition.holds.only(np.abs(self._settled).max(axis=1, initial=0.0) > 0)
