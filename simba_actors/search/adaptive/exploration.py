"""Choice of the combinations of parts to try next, by Thompson sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simba_actors.search.adaptive.combination import best_combinations
from simba_actors.search.model.effects import Effects
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.settings import Caps

BOLDNESS = 0.6
"""Scale of the draws for combinations. Below 1, since the best of many parts under a draw is usually a lucky one."""

ACTIVE_PARTS = 60
"""Number of parts, the most promising ones, from which combinations are made."""


class Exploration:
    """Chooses combinations that are the best under draws from the posterior over the effects of parts.

    A combination is a tuple of part ids in the order of the prompt. `in_flight` has those of steps that are
    still open, whose programs the model does not know yet.
    """

    def __init__(
        self, model: PartModel, draws: np.random.Generator, caps: Caps, in_flight: Sequence[Sequence[str]] = ()
    ) -> None:
        self._model = model
        index = {part.part_id: n for n, part in enumerate(model.parts)}
        # The model of a long run may have left a part out since then. Such a combination can't be proposed again.
        known = [parts for parts in in_flight if all(part_id in index for part_id in parts)]
        self._in_flight = [[index[part_id] for part_id in parts] for parts in known]
        self._draws = draws
        self._caps = caps
        ranked = np.argsort(-model.promise, kind="stable")
        self._promising = [int(index) for index in ranked[:ACTIVE_PARTS]]

    def bases(self, count: int) -> tuple[tuple[str, ...], ...]:
        """Return the best combinations under `count` draws that leave room for one more demo."""
        caps = replace(self._caps, demos=max(0, self._caps.demos - 1))
        drawn = [self._model.draw(self._draws, BOLDNESS) for _ in range(count)]
        return tuple(self._part_ids(parts) for parts in self._best(drawn, caps))

    def untried(self, attempts: int) -> tuple[tuple[str, ...], ...]:
        """Make up to `attempts` combinations, and return those that no program has yet.

        The first is the best one under the most likely effects. Then variations of good programs alternate with the
        best combinations under draws.
        """
        model = self._model
        variations = [self._variation() if attempt % 2 else None for attempt in range(attempts)]
        count = variations.count(None)
        effects = [model.draw(self._draws, BOLDNESS) if n else model.likely for n in range(count)]
        best = iter(self._best(effects, self._caps))
        known = {self._identity(parts) for parts in (*model.programs.values(), *self._in_flight)}
        found: list[tuple[str, ...]] = []
        for variation in variations:
            parts = next(best) if variation is None else variation
            if self._identity(parts) not in known:
                known.add(self._identity(parts))
                found.append(self._part_ids(parts))
        return tuple(found)

    def _variation(self) -> Sequence[int] | None:
        """Return the best program under a draw with one of its demos replaced by another.

        Return None unless the program is better than the sum of its parts. A variation keeps what the program owes to
        the order of its demos, which would be lost if its parts were combined again.
        """
        model = self._model
        qualities = model.drawn_qualities(self._draws, BOLDNESS)
        program = max(qualities, key=qualities.__getitem__)
        parts = list(model.programs[program])
        others = [index for index in self._promising if self._is_demo(index) and index not in parts]
        if model.own_effect(program)[0] <= 0 or not others:
            return None
        new = int(self._draws.choice(others))
        alike = [n for n, index in enumerate(parts) if model.parts[index].place == model.parts[new].place]
        if len(alike) < 2:
            return None
        parts[int(self._draws.choice(alike))] = new
        return parts

    def _best(self, possible: Sequence[Effects], caps: Caps) -> list[Sequence[int]]:
        """Return the best combinations. Their demos are in random order if order is not known to matter."""
        combinations = best_combinations(self._model, possible, self._promising, caps)
        return [parts if self._model.order_matters else self._shuffled(parts) for parts in combinations]

    def _shuffled(self, parts: Sequence[int]) -> Sequence[int]:
        """Return the parts with their demos last, in random order."""
        demos = [index for index in parts if self._is_demo(index)]
        self._draws.shuffle(demos)
        return [*(index for index in parts if not self._is_demo(index)), *demos]

    def _identity(self, parts: Sequence[int]) -> frozenset[int | tuple[int, int | None]]:
        """Return what distinguishes a combination: its parts, and the positions of its demos if order matters."""
        if not self._model.order_matters:
            return frozenset(parts)
        positions = dict(self._model.order.positions(parts))
        return frozenset((part, positions.get(index)) for index, part in enumerate(parts))

    def _is_demo(self, index: int) -> bool:
        return self._model.parts[index].kind == "demo"

    def _part_ids(self, parts: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._model.parts[index].part_id for index in parts)
