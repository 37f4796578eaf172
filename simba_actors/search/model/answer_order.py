"""Which answer stands where among a prompt's demos, as columns of a design.

An LM is drawn to some answers by the order of those that its demos show, to the last ones above all ("recency bias":
Zhao et al., "Calibrate before use: improving few-shot performance of language models", 2021), so that the same demos
can be near the best in one order and near chance in another (Lu et al., "Fantastically ordered prompts and where to
find them", 2022). Each answer has an effect in each position on examples that call for each answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from simba_actors.search.model.answers import Answers
from simba_actors.search.model.estimation import Indices, Matrix, Vector
from simba_actors.search.model.parts import Part

POSITIONS = 8
"""Last demos of a predictor that are told apart by where they stand."""

MOST_COLUMNS = 320
"""Beyond these the order is left out: with many answers, none is shown often enough in one position to learn from."""


class AnswerOrder:
    """Of prompts that are made of `parts`, by their places in it; position 0 is a prompt's last demo.

    `programs` are those to learn from: positions that no demo of theirs has are left out.
    """

    def __init__(self, parts: Sequence[Part], answers: Answers, programs: Iterable[Sequence[int]]) -> None:
        self._parts = parts
        predictors = list(dict.fromkeys(part.predictor for part in parts))
        self._positions = min(POSITIONS, max(map(self._longest, programs), default=0))
        columns = len(predictors) * self._positions * answers.count**2
        self.columns = columns if columns <= MOST_COLUMNS else 0
        self._predictor = {name: n for n, name in enumerate(predictors)}
        self._shows: Matrix = np.array([answers.shown(part.fields) for part in parts]).reshape(
            len(parts), answers.count
        )
        self._called_for = answers.called_for
        self._shape = (len(predictors), self._positions, answers.count) if self.columns else (0, 0, 0)

    def _longest(self, places: Sequence[int]) -> int:
        """How many demos the predictor with the most of them has."""
        demos = Counter(self._parts[place].predictor for place in places if self._parts[place].kind == "demo")
        return max(demos.values(), default=0)

    def positions(self, places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The index in `places` of each demo that has one, with its position."""
        behind = Counter[str]()
        for index in reversed(range(len(places))):
            part = self._parts[places[index]]
            if part.kind == "demo":
                if behind[part.predictor] < self._positions:
                    yield index, behind[part.predictor]
                behind[part.predictor] += 1

    def standing(self, places: Sequence[int]) -> Vector:
        """Which answer stands in which position of a prompt."""
        stands = np.zeros(self._shape)
        if self.columns:
            for index, position in self.positions(places):
                place = places[index]
                stands[self._predictor[self._parts[place].predictor], position] = self._shows[place]
        return stands.ravel()

    def design(self, standing: Matrix, rows: Indices) -> Matrix:
        """The columns for prompts in which answers stand so, each on the example of a row."""
        called_for = self._called_for[rows]
        return (standing[:, :, None] * called_for[:, None, :]).reshape(len(standing), self.columns)

    def on_rows(self, effects: Vector) -> Matrix:
        """From the effects of the columns, those of each answer in each position on each row."""
        of_answers = effects.reshape(math.prod(self._shape), self._called_for.shape[1])
        return of_answers @ self._called_for.T

    def at(self, position: int, places: Sequence[int], on_rows: Matrix) -> Matrix:
        """What parts of one kind of one predictor do on each row by standing there: nothing, unless they are demos."""
        if position >= self._shape[1]:
            return np.zeros((len(places), len(self._called_for)))
        predictor = self._predictor[self._parts[places[0]].predictor]
        of_answers = on_rows.reshape(*self._shape, -1)[predictor, position]
        return self._shows[list(places)] @ of_answers
