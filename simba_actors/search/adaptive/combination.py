"""The best prompt that can be put together from known parts, if their effects are what they are taken to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simba_actors.search.adaptive.exchange import Exchange
from simba_actors.search.model.estimation import Matrix, sigmoid
from simba_actors.search.model.part_model import Effects, PartModel
from simba_actors.search.model.parts import Part

LEAST_GAIN = 1e-4
"""Expected score that a part must add to be taken, out of 1."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How many demos and rules a predictor may have."""

    demos: int
    rules: int


def best_combination(
    model: PartModel, effects: Effects, candidates: Sequence[int], caps: Caps, trainset: int
) -> tuple[int, ...]:
    """Places of parts, taken one by one from `candidates`, each the one that adds most on the trainset.

    Parts that help on the same examples, or show the same answers, bring less and less together, so complementary ones
    are found. Greedy choice is within 1 - 1/e of the best for gains that only diminish (Nemhauser, Wolsey and Fisher,
    1978). Where the order of demos matters, the last one is chosen first, and exchanges follow.
    """
    log_odds, of_parts, answers = effects.bare[:trainset], effects.of_parts[:, :trainset], effects.answers[:, :trainset]
    shown = np.zeros(trainset)
    held: Counter[tuple[str, str]] = Counter()  # By `Part.place`.
    chosen: list[int] = []
    quality = float(sigmoid(log_odds).mean())
    kinds = {place: _kind(model.parts[place]) for place in candidates}
    left: list[int] = [place for place in candidates if _fits(model.parts[place], held, caps)]
    while left:
        added = {kind: _added_length(effects, *kind, held) for kind in set(kinds.values())}
        length = np.array([added[kinds[place]] for place in left])
        options = log_odds + of_parts[left] + effects.shown * np.maximum(answers[left] - shown, 0.0)
        if model.order_matters:
            options += _of_order(model, effects, left, held)[:, :trainset]
        options += length[:, None]
        qualities = sigmoid(options).mean(axis=1)
        best = int(qualities.argmax())
        if qualities[best] < quality + LEAST_GAIN:
            break
        quality, log_odds = float(qualities[best]), options[best]
        place = left.pop(best)
        shown = np.maximum(shown, answers[place])
        chosen.append(place)
        held[model.parts[place].place] += 1
        if not _fits(model.parts[place], held, caps):
            left = [other for other in left if model.parts[other].place != model.parts[place].place]
    if not model.order_matters:
        return tuple(sorted(chosen))
    demos = [place for place in chosen if model.parts[place].kind == "demo"]
    others = sorted(set(chosen).difference(demos))
    return Exchange(model, effects, candidates, trainset).best([*others, *reversed(demos)])


def _of_order(model: PartModel, effects: Effects, places: Sequence[int], held: Counter[tuple[str, str]]) -> Matrix:
    """What each of these would do on each row by standing before the demos that are there already."""
    of_order = np.zeros((len(places), effects.bare.size))
    for kind in {_kind(model.parts[place]) for place in places}:
        alike = [n for n, place in enumerate(places) if _kind(model.parts[place]) == kind]
        of_order[alike] = model.order.at(held[kind], [places[n] for n in alike], effects.in_order)
    return of_order


def _fits(part: Part, held: Counter[tuple[str, str]], caps: Caps) -> bool:
    cap = {"demo": caps.demos, "rule": caps.rules, "instructions": 1, "setting": 1}[part.kind]
    return held[part.place] < cap


def _kind(part: Part) -> tuple[str, str]:
    return part.predictor, part.kind


def _added_length(effects: Effects, predictor: str, kind: str, held: Counter[tuple[str, str]]) -> float:
    """What one more part of that kind changes by the length of the prompt alone."""
    if kind == "setting":
        return 0.0
    demos = held[predictor, "demo"]
    rules = held[predictor, "rule"] + held[predictor, "instructions"]
    longer = (rules, demos + 1) if kind == "demo" else (rules + 1, demos)
    return effects.of_length(*longer) - effects.of_length(rules, demos)
