"""The best prompt that can be put together from known parts, given estimates of their effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simba_actors.search.model.effects import Effects
from simba_actors.search.model.estimation import sigmoid
from simba_actors.search.model.linear_algebra import Matrix
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import UNCOUNTED, Part
from simba_actors.search.settings import Caps

LEAST_GAIN = 1e-4
"""Expected score that a part must add to be taken, on a scale from 0 to 1."""

CHOSEN_ON = 128
"""Maximum number of panel examples on which parts are chosen one by one."""

SWEEPS = 2
"""Exchanges tried per demo. Few are left to make after the second."""


def best_combination(model: PartModel, effects: Effects, candidates: Sequence[int], caps: Caps) -> tuple[int, ...]:
    """Return indices of parts, chosen one by one from `candidates`, each the one that adds most on the panel.

    Parts that help on the same examples, or show the same answers, add less and less together, so complementary ones
    are found. Greedy choice is within 1 - 1/e of the best where gains only diminish (G. Nemhauser, L. Wolsey and
    M. Fisher, "An analysis of approximations for maximizing submodular set functions", 1978). Where the order of demos
    matters, the last demo is chosen first, and exchanges of single demos follow.
    """
    rows = slice(None, None, -(-model.panel // CHOSEN_ON))
    log_odds, answers = effects.bare[rows], effects.answers[list(candidates), rows]
    of_parts = effects.of(list(candidates), rows)
    shown = np.zeros(len(log_odds))
    held: Counter[tuple[str, str]] = Counter()  # By `Part.place`.
    chosen: list[int] = []
    quality = float(sigmoid(log_odds).mean())
    parts = [model.parts[index] for index in candidates]
    kinds = [_kind(part) for part in parts]
    left: list[int] = [n for n, part in enumerate(parts) if _fits(part, held, caps)]
    while left:
        added = {kind: _added_length(effects, *kind, held) for kind in set(kinds)}
        length = np.array([added[kinds[n]] for n in left])
        options = log_odds + of_parts[left] + effects.shown * np.maximum(answers[left] - shown, 0.0)
        if model.order_matters:
            options += _of_order(model, effects, [candidates[n] for n in left], held)[:, rows]
        options += length[:, None]
        qualities = sigmoid(options).mean(axis=1)
        best = int(qualities.argmax())
        if qualities[best] < quality + LEAST_GAIN:
            break
        before, chosen_part = quality, left[best]
        quality, log_odds = float(qualities[best]), options[best]
        # What makes a prompt worse now will hardly make it better later, unless by its position.
        left = [
            other
            for other, after in zip(left, qualities.tolist(), strict=True)
            if other != chosen_part and (model.order_matters or after >= before)
        ]
        shown = np.maximum(shown, answers[chosen_part])
        chosen.append(candidates[chosen_part])
        place = parts[chosen_part].place
        held[place] += 1
        if not _fits(parts[chosen_part], held, caps):
            left = [n for n in left if parts[n].place != place]
    if not model.order_matters:
        return tuple(sorted(chosen))
    demos = [index for index in chosen if model.parts[index].kind == "demo"]
    others = sorted(set(chosen).difference(demos))
    return _Exchange(model, effects, candidates, of_parts, rows).best([*others, *reversed(demos)])


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Coordinate ascent over the demos of a prompt, on the panel.

    It finds a better order too, since a part that is not in the prompt may take any demo's position.
    """

    model: PartModel
    effects: Effects
    candidates: Sequence[int]
    """Parts to choose from."""
    of_parts: Matrix
    """Effect of each candidate on each example."""
    rows: slice
    """The examples of the panel to choose on."""

    def best(self, parts: Sequence[int]) -> tuple[int, ...]:
        """Replace each demo in turn by what adds most in its position, until no exchange adds anything."""
        arranged = list(parts)
        for _ in range(SWEEPS):
            before = tuple(arranged)
            for index, position in self.model.order.positions(before):
                arranged[index] = self._best_at(arranged, index, position)
            if tuple(arranged) == before:
                break
        return tuple(arranged)

    def _best_at(self, arranged: Sequence[int], index: int, position: int) -> int:
        """Return the best part for a demo's position: the demo itself if nothing is better there."""
        own, effects, rows = arranged[index], self.effects, self.rows
        place = self.model.parts[own].place
        options = [
            n
            for n, part in enumerate(self.candidates)
            if part == own or (part not in arranged and self.model.parts[part].place == place)
        ]
        parts = [self.candidates[n] for n in options]
        there = self.of_parts[options] + self.model.order.at(position, parts, effects.in_order)[:, rows]
        shown = self.model.answers_shown([part for part in arranged if part != own])[rows]
        there += effects.shown * np.maximum(effects.answers[parts, rows], shown)
        without_own = self.model.log_odds_of(arranged, effects)[rows] - there[parts.index(own)]
        qualities = sigmoid(without_own + there).mean(axis=1)
        best = int(qualities.argmax())
        return parts[best] if qualities[best] > qualities[parts.index(own)] else own


def _of_order(model: PartModel, effects: Effects, parts: Sequence[int], held: Counter[tuple[str, str]]) -> Matrix:
    """Return the effect on each example of placing each part before the demos that are held already."""
    of_order = np.zeros((len(parts), effects.bare.size))
    for kind in {_kind(model.parts[part]) for part in parts}:
        alike = [n for n, part in enumerate(parts) if _kind(model.parts[part]) == kind]
        of_order[alike] = model.order.at(held[kind], [parts[n] for n in alike], effects.in_order)
    return of_order


def _fits(part: Part, held: Counter[tuple[str, str]], caps: Caps) -> bool:
    if part.kind == "omission":
        return True
    cap = {"demo": caps.demos, "rule": caps.rules}.get(part.kind, 1)
    return held[part.place] < cap


def _kind(part: Part) -> tuple[str, str]:
    return part.predictor, part.kind


def _added_length(effects: Effects, predictor: str, kind: str, held: Counter[tuple[str, str]]) -> float:
    """Return what one more part of that kind changes by the length of the prompt alone."""
    if kind in UNCOUNTED:
        return 0.0
    demos = held[predictor, "demo"]
    rules = held[predictor, "rule"] + held[predictor, "instructions"]
    longer = (rules, demos + 1) if kind == "demo" else (rules + 1, demos)
    return effects.of_length(*longer) - effects.of_length(rules, demos)
