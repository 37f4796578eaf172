"""Which combinations of parts to try: the best ones, were the effects of parts as a draw has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simba_actors.search.adaptive.combination import Caps, best_combination
from simba_actors.search.model.part_model import Effects, PartModel

BOLDNESS = 0.6
"""Scale of the draws for combinations: below 1, since the best of many parts under a draw tends to be a lucky one."""

ACTIVE_PARTS, PROMISE_DRAWS = 60, 12
"""Parts that combinations are made from: those that may be worth the most, by as many draws."""


class Exploration:
    """Thompson sampling over combinations: part ids in the order of the prompt."""

    def __init__(self, model: PartModel, draws: np.random.Generator, caps: Caps, trainset: int) -> None:
        self._model = model
        self._draws = draws
        self._caps = caps
        self._trainset = trainset
        ranked = np.argsort(-model.promise(draws, PROMISE_DRAWS), kind="stable")
        self._promising = [int(place) for place in ranked[:ACTIVE_PARTS]]

    def base(self) -> tuple[str, ...]:
        """The best combination under one draw that has room for one more demo."""
        caps = replace(self._caps, demos=max(0, self._caps.demos - 1))
        return self._part_ids(self._best(self._model.draw(self._draws, BOLDNESS), caps))

    def untried(self, attempts: int) -> tuple[tuple[str, ...], ...]:
        """Combinations that no program has, of as many attempts: the likely best one, drawn ones and variations."""
        model = self._model
        known = {self._made_of(places) for places in model.programs.values()}
        found: list[tuple[str, ...]] = []
        for attempt in range(attempts):
            effects = model.likely if attempt == 0 else model.draw(self._draws, BOLDNESS)
            places = self._best(effects, self._caps)
            if attempt % 2:
                places = self._variation() or places
            if self._made_of(places) not in known:
                known.add(self._made_of(places))
                found.append(self._part_ids(places))
        return tuple(found)

    def _variation(self) -> Sequence[int] | None:
        """The best program under a draw with another demo in the place of one of its own.

        Only of a program that is better than its parts: what it owes to the order of its demos is kept so, and is lost
        where its parts are put together anew.
        """
        model = self._model
        qualities = model.drawn_qualities(self._draws, BOLDNESS)
        program = max(qualities, key=qualities.__getitem__)
        places = list(model.programs[program])
        others = [place for place in self._promising if self._is_demo(place) and place not in places]
        if model.own_effect(program)[0] <= 0 or not others:
            return None
        new = int(self._draws.choice(others))
        alike = [n for n, place in enumerate(places) if model.parts[place].place == model.parts[new].place]
        if len(alike) < 2:
            return None
        places[int(self._draws.choice(alike))] = new
        return places

    def _best(self, effects: Effects, caps: Caps) -> Sequence[int]:
        """Its demos in any order where that is not known to matter."""
        places = best_combination(self._model, effects, self._promising, caps, self._trainset)
        if self._model.order_matters:
            return places
        demos = [place for place in places if self._is_demo(place)]
        self._draws.shuffle(demos)
        return [*(place for place in places if not self._is_demo(place)), *demos]

    def _made_of(self, places: Sequence[int]) -> frozenset[tuple[int, int | None]]:
        """What makes a combination another one: its parts, and where its demos stand if that matters."""
        positions = dict(self._model.order.positions(places)) if self._model.order_matters else {}
        return frozenset((place, positions.get(index)) for index, place in enumerate(places))

    def _is_demo(self, place: int) -> bool:
        return self._model.parts[place].kind == "demo"

    def _part_ids(self, places: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._model.parts[place].part_id for place in places)
