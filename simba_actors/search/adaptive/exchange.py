"""Better demos, and a better order of them, by exchanging one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simba_actors.search.model.estimation import sigmoid
from simba_actors.search.model.part_model import Effects, PartModel

SWEEPS = 4
"""Times that each demo may be exchanged. Few are left to exchange after the second."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Coordinate ascent on the trainset, were effects these, with `candidates` to choose from.

    It finds an order too: whatever is not in the prompt may come in anywhere.
    """

    model: PartModel
    effects: Effects
    candidates: Sequence[int]
    trainset: int

    def best(self, places: Sequence[int]) -> tuple[int, ...]:
        """Each demo in turn replaced by what adds most where it stands, until no exchange adds anything."""
        arranged = list(places)
        for _ in range(SWEEPS):
            before = tuple(arranged)
            for index, position in self.model.order.positions(before):
                arranged[index] = self._best_at(arranged, index, position)
            if tuple(arranged) == before:
                break
        return tuple(arranged)

    def _best_at(self, arranged: Sequence[int], index: int, position: int) -> int:
        """What to put in the place of one demo: itself where nothing is better there."""
        own, effects = arranged[index], self.effects
        options = [own, *(place for place in self.candidates if place not in arranged and self._alike(place, own))]
        shown = self.model.answers_shown([place for place in arranged if place != own])
        there = effects.of_parts[options] + self.model.order.at(position, options, effects.in_order)
        there += effects.shown * np.maximum(effects.answers[options], shown)
        log_odds = self.model.log_odds_of(arranged, effects) + (there - there[0])[:, : self.trainset]
        return options[int(sigmoid(log_odds).mean(axis=1).argmax())]

    def _alike(self, one: int, other: int) -> bool:
        """Whether one part can take the place of another."""
        return self.model.parts[one].place == self.model.parts[other].place
