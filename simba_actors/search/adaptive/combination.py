"""The best prompt that can be put together from known parts, given estimates of their effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simba_actors.search.model.estimation import Matrix, sigmoid
from simba_actors.search.model.part_model import Effects, PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.settings import Caps

LEAST_GAIN = 1e-4
"""Expected score that a part must add to be taken, on a scale from 0 to 1."""

SWEEPS = 4
"""How often each demo may be exchanged. Few exchanges are left after the second time."""


def best_combination(
    model: PartModel, effects: Effects, candidates: Sequence[int], caps: Caps, trainset: int
) -> tuple[int, ...]:
    """Return indices of parts, chosen one by one from `candidates`, each the one that adds most on the trainset.

    Parts that help on the same examples, or show the same answers, add less and less together, so complementary ones
    are found. Greedy choice is within 1 - 1/e of the best where gains only diminish (G. Nemhauser, L. Wolsey and
    M. Fisher, "An analysis of approximations for maximizing submodular set functions", 1978). Where the order of demos
    matters, the last demo is chosen first, and exchanges of single demos follow.
    """
    log_odds, of_parts, answers = effects.bare[:trainset], effects.of_parts[:, :trainset], effects.answers[:, :trainset]
    shown = np.zeros(trainset)
    held: Counter[tuple[str, str]] = Counter()  # By `Part.place`.
    chosen: list[int] = []
    quality = float(sigmoid(log_odds).mean())
    kinds = {index: _kind(model.parts[index]) for index in candidates}
    left: list[int] = [index for index in candidates if _fits(model.parts[index], held, caps)]
    while left:
        added = {kind: _added_length(effects, *kind, held) for kind in set(kinds.values())}
        length = np.array([added[kinds[index]] for index in left])
        options = log_odds + of_parts[left] + effects.shown * np.maximum(answers[left] - shown, 0.0)
        if model.order_matters:
            options += _of_order(model, effects, left, held)[:, :trainset]
        options += length[:, None]
        qualities = sigmoid(options).mean(axis=1)
        best = int(qualities.argmax())
        if qualities[best] < quality + LEAST_GAIN:
            break
        quality, log_odds = float(qualities[best]), options[best]
        index = left.pop(best)
        shown = np.maximum(shown, answers[index])
        chosen.append(index)
        held[model.parts[index].place] += 1
        if not _fits(model.parts[index], held, caps):
            left = [other for other in left if model.parts[other].place != model.parts[index].place]
    if not model.order_matters:
        return tuple(sorted(chosen))
    demos = [index for index in chosen if model.parts[index].kind == "demo"]
    others = sorted(set(chosen).difference(demos))
    return _Exchange(model, effects, candidates, trainset).best([*others, *reversed(demos)])


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Coordinate ascent over the demos of a prompt, on the trainset.

    It finds a better order too, since a part that is not in the prompt may take any demo's position.
    """

    model: PartModel
    effects: Effects
    candidates: Sequence[int]
    """Parts to choose from."""
    trainset: int
    """Size of the trainset."""

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
        own, effects = arranged[index], self.effects
        options = [own, *(part for part in self.candidates if part not in arranged and self._alike(part, own))]
        shown = self.model.answers_shown([part for part in arranged if part != own])
        there = effects.of_parts[options] + self.model.order.at(position, options, effects.in_order)
        there += effects.shown * np.maximum(effects.answers[options], shown)
        log_odds = self.model.log_odds_of(arranged, effects) + (there - there[0])[:, : self.trainset]
        return options[int(sigmoid(log_odds).mean(axis=1).argmax())]

    def _alike(self, one: int, other: int) -> bool:
        """Whether one part can take the other's place in a prompt."""
        return self.model.parts[one].place == self.model.parts[other].place


def _of_order(model: PartModel, effects: Effects, parts: Sequence[int], held: Counter[tuple[str, str]]) -> Matrix:
    """Return the effect on each example of placing each part before the demos that are held already."""
    of_order = np.zeros((len(parts), effects.bare.size))
    for kind in {_kind(model.parts[part]) for part in parts}:
        alike = [n for n, part in enumerate(parts) if _kind(model.parts[part]) == kind]
        of_order[alike] = model.order.at(held[kind], [parts[n] for n in alike], effects.in_order)
    return of_order


def _fits(part: Part, held: Counter[tuple[str, str]], caps: Caps) -> bool:
    cap = {"demo": caps.demos, "rule": caps.rules, "instructions": 1, "setting": 1}[part.kind]
    return held[part.place] < cap


def _kind(part: Part) -> tuple[str, str]:
    return part.predictor, part.kind


def _added_length(effects: Effects, predictor: str, kind: str, held: Counter[tuple[str, str]]) -> float:
    """Return what one more part of that kind changes by the length of the prompt alone."""
    if kind == "setting":
        return 0.0
    demos = held[predictor, "demo"]
    rules = held[predictor, "rule"] + held[predictor, "instructions"]
    longer = (rules, demos + 1) if kind == "demo" else (rules + 1, demos)
    return effects.of_length(*longer) - effects.of_length(rules, demos)
