"""Positions of answers among a prompt's demos, as columns of the model's design.

The order in which demos show answers biases an LM towards some of them, above all towards the last ones ("recency
bias": Zhao et al., "Calibrate before use: improving few-shot performance of language models", 2021). The same demos can
be near the best in one order and near chance in another (Lu et al., "Fantastically ordered prompts and where to find
them", 2022). Each answer has two effects in each position: one on examples that call for it, and one on examples that
call for another answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from simba_actors.search.model.answers import Answers
from simba_actors.search.model.parts import Part
from simba_actors.search.model.parts_held import PartsHeld
from simba_actors.search.statistics.linear_algebra import Indices, Matrix, Vector, matmul, matvec

POSITIONS = 8
"""Number of a predictor's last demos whose position has an effect."""

MOST_COLUMNS = 128
"""Maximum number of columns. If the order needs more, it is left out: no answer would be seen often in one position."""


class AnswerOrder:
    """The order of answers in prompts. Position 0 is that of a predictor's last demo.

    A prompt is given as the indices of its parts in `parts`. Its placement is a flat array over (predictor, position,
    answer), with a 1 where a demo shows the answer. Positions in which no program has a demo are left out.
    """

    def __init__(self, parts: Sequence[Part], answers: Answers, programs: PartsHeld) -> None:
        self._parts = parts
        self._called_for = answers.called_for
        predictors = {name: n for n, name in enumerate(dict.fromkeys(part.predictor for part in parts))}
        self._predictor: Indices = np.array([predictors[part.predictor] for part in parts], dtype=np.int64)
        demos = programs.only(np.array([part.kind == "demo" for part in parts], dtype=np.bool_))
        position = demos.positions_from_end(self._predictor)
        self._positions = min(POSITIONS, int(position.max(initial=-1)) + 1)
        columns = len(predictors) * self._positions * answers.count * 2
        self.columns = columns if columns <= MOST_COLUMNS else 0
        self.shape = (len(predictors), self._positions, answers.count) if self.columns else (0, 0, 0)
        self._shows: Matrix = answers.shown(parts) if self.columns else np.zeros((len(parts), answers.count))
        self.placements: Matrix = self._placements(demos, position)
        """The placement of each program."""

    def _placements(self, demos: PartsHeld, position: Indices) -> Matrix:
        placed = np.zeros((len(demos.counts), *self.shape))
        if self.columns:
            kept = position < self._positions
            parts = demos.flat[kept]
            placed[demos.program[kept], self._predictor[parts], position[kept]] = self._shows[parts]
        return placed.reshape(len(demos.counts), self.columns // 2)

    def positions(self, prompt: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield the index in `prompt` of each demo that has a position, with that position."""
        behind = Counter[str]()
        for index in reversed(range(len(prompt))):
            part = self._parts[prompt[index]]
            if part.kind == "demo":
                if behind[part.predictor] < self._positions:
                    yield index, behind[part.predictor]
                behind[part.predictor] += 1

    def placement(self, prompt: Sequence[int]) -> Vector:
        """Return the placement of a prompt."""
        placed = np.zeros(self.shape)
        if self.columns:
            for index, position in self.positions(prompt):
                part = prompt[index]
                placed[self._predictor[part], position] = self._shows[part]
        return placed.ravel()

    def design(self, placement: Matrix, rows: Indices) -> Matrix:
        """Return the columns of the design for prompts with these placements, each on an example of its own.

        `rows` are the positions of the examples in `Examples`.
        """
        if not self.columns:
            return np.zeros((len(rows), 0))
        called_for = self._called_for[rows]
        placed = placement.reshape(len(placement), -1, called_for.shape[1])
        same = placed * called_for[:, None, :]
        other = placed * called_for.sum(axis=1)[:, None, None] - same
        return np.stack([same, other], axis=-1).reshape(len(placement), self.columns)

    def slope(self, placement: Vector, weight: Vector) -> Vector:
        """Return the sum of a prompt's rows of `design` on the first examples, each times its weight."""
        if not self.columns:
            return np.zeros(0)
        called_for = self._called_for[: len(weight)]
        same = matvec(called_for.T, weight)
        other = (called_for.sum(axis=1) * weight).sum() - same
        placed = placement.reshape(-1, len(same))
        return np.stack([placed * same, placed * other], axis=-1).ravel()

    def on_examples(self, effects: Vector, count: int) -> Matrix:
        """Return the effect of each answer in each position (row) on each of the first `count` examples (column).

        `effects` are those of the columns of the design.
        """
        if not self.columns:
            return np.zeros((0, count))
        on_same, on_other = effects.reshape(-1, 2).T
        called_for = np.tile(self._called_for[:count].T, (self.shape[0] * self.shape[1], 1))
        any_called_for = self._called_for[:count].sum(axis=1)
        return on_same[:, None] * called_for + on_other[:, None] * (any_called_for - called_for)

    def effect_at(self, position: int, parts: Sequence[int], in_order: Matrix) -> Matrix:
        """Return the effect in this position of parts of one kind and predictor; 0 unless they are demos.

        `in_order` is what `on_examples` returned for the effects.
        """
        if position >= self.shape[1]:
            return np.zeros((len(parts), in_order.shape[1]))
        predictor = self._predictor[parts[0]]
        of_answers = in_order.reshape(*self.shape, -1)[predictor, position]
        return matmul(self._shows[list(parts)], of_answers)
