"""Which combinations of parts to try: the best ones, were the effects of parts as a draw has them."""

from __future__ import annotations

import numpy as np

from simba_actors.algorithm.combination import Caps, best_combination
from simba_actors.algorithm.part_model import Effects, PartModel

BOLDNESS = 0.6
"""Scale of the draws for combinations: below 1, since the best of many parts under a draw tends to be a lucky one."""

ACTIVE_PARTS, PROMISE_DRAWS = 60, 12
"""Parts that combinations are made from: those that may be worth the most, by as many draws."""


class Exploration:
    """Thompson sampling over combinations, which are tuples of part ids."""

    def __init__(self, model: PartModel, draws: np.random.Generator, caps: Caps, trainset: int) -> None:
        self._model = model
        self._draws = draws
        self._caps = caps
        self._trainset = trainset
        ranked = np.argsort(-model.promise(draws, PROMISE_DRAWS), kind="stable")
        self._promising = [int(place) for place in ranked[:ACTIVE_PARTS]]

    def drawn(self) -> tuple[str, ...]:
        """The best combination under one draw."""
        return self._best(self._model.draw(self._draws, BOLDNESS))

    def untried(self, attempts: int) -> tuple[tuple[str, ...], ...]:
        """Combinations that no program has, of as many attempts: the likely best one, then drawn ones."""
        model = self._model
        known = {frozenset(model.parts[place].part_id for place in places) for places in model.programs.values()}
        found: list[tuple[str, ...]] = []
        for attempt in range(attempts):
            combination = self._best(model.likely) if attempt == 0 else self.drawn()
            if frozenset(combination) not in known:
                known.add(frozenset(combination))
                found.append(combination)
        return tuple(found)

    def _best(self, effects: Effects) -> tuple[str, ...]:
        places = best_combination(self._model, effects, self._promising, self._caps, self._trainset)
        return tuple(self._model.parts[place].part_id for place in places)
