"""The best prompt that can be put together from known parts, given estimates of their effects."""

from __future__ import annotations

import math
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
    return best_combinations(model, [effects], candidates, caps)[0]


def best_combinations(
    model: PartModel, possible: Sequence[Effects], candidates: Sequence[int], caps: Caps
) -> list[tuple[int, ...]]:
    """Return the `best_combination` under each of the `possible` effects.

    They are found side by side: a choice under one of them is too little arithmetic to pay for its calls of NumPy.
    """
    options = _Options.of(model, candidates, caps)
    of_parts = np.stack([effects.of(list(candidates), options.rows) for effects in possible])
    flat = of_parts.reshape(-1, of_parts.shape[2])
    choices = [_Choice(options, effects) for effects in possible]
    while choosing := [n for n, choice in enumerate(choices) if choice.left]:
        log_odds = flat[[n * len(candidates) + part for n in choosing for part in choices[n].left]]
        ends = np.cumsum([len(choices[n].left) for n in choosing]).tolist()
        each = [(choices[n], slice(start, end)) for n, start, end in zip(choosing, [0, *ends], ends, strict=False)]
        for choice, own in each:
            choice.add_to(log_odds[own])
        qualities = (sigmoid(log_odds).sum(axis=1) / log_odds.shape[1]).tolist()
        for choice, own in each:
            choice.choose(log_odds[own], qualities[own])
    return [choice.arranged(own) for choice, own in zip(choices, of_parts, strict=True)]


@dataclass(frozen=True, slots=True)
class _Options:
    """The parts to choose from."""

    model: PartModel
    candidates: Sequence[int]
    """Their indices in the model."""
    kinds: Sequence[tuple[str, str]]
    """Predictor and kind of each."""
    places: Sequence[tuple[str, str]]
    """The `Part.place` of each."""
    most: Sequence[float]
    """Number of parts that a prompt holds at most in the place of each."""
    rows: slice
    """The examples of the panel to choose on."""

    @classmethod
    def of(cls, model: PartModel, candidates: Sequence[int], caps: Caps) -> _Options:
        parts = [model.parts[index] for index in candidates]
        return cls(
            model,
            candidates,
            kinds=[_kind(part) for part in parts],
            places=[part.place for part in parts],
            most=[_most(part, caps) for part in parts],
            rows=slice(None, None, -(-model.panel // CHOSEN_ON)),
        )


class _Choice:
    """Parts that are chosen one by one under some effects."""

    def __init__(self, options: _Options, effects: Effects) -> None:
        self._options, self._effects = options, effects
        answers = effects.answers[list(options.candidates), options.rows]
        self._answers = answers if answers.any() else None
        self._log_odds = effects.bare[options.rows]
        self._shown = np.zeros(len(self._log_odds))
        self._quality = float(sigmoid(self._log_odds).mean())
        self._held: Counter[tuple[str, str]] = Counter()  # By `Part.place`.
        self._chosen: list[int] = []
        self.left = [n for n, most in enumerate(options.most) if most > 0]
        """Indices in the candidates of the parts that may be chosen next."""

    def add_to(self, log_odds: Matrix) -> None:
        """Add everything else to the effects of the parts that are left: a row for each, a column for each example."""
        options, effects, left, held = self._options, self._effects, self.left, self._held
        log_odds += self._log_odds
        if self._answers is not None:
            log_odds += effects.shown * np.maximum(self._answers[left] - self._shown, 0.0)
        if options.model.order_matters:
            parts = [options.candidates[n] for n in left]
            log_odds += _of_order(options.model, effects, parts, held)[:, options.rows]
        added = {kind: _added_length(effects, *kind, held) for kind in set(options.kinds)}
        log_odds += np.array([added[options.kinds[n]] for n in left])[:, None]

    def choose(self, log_odds: Matrix, qualities: Sequence[float]) -> None:
        """Choose the best of the parts that are left, given the score expected with each, if it adds enough."""
        options, quality = self._options, max(qualities)
        if quality < self._quality + LEAST_GAIN:
            self.left = []
            return
        best = qualities.index(quality)
        before, chosen = self._quality, self.left[best]
        self._quality, self._log_odds = quality, log_odds[best]
        self._chosen.append(options.candidates[chosen])
        if self._answers is not None:
            self._shown = np.maximum(self._shown, self._answers[chosen])
        place = options.places[chosen]
        self._held[place] += 1
        is_full = self._held[place] >= options.most[chosen]
        # What makes a prompt worse now will hardly make it better later, unless by its position.
        self.left = [
            other
            for other, after in zip(self.left, qualities, strict=True)
            if other != chosen
            and (after >= before or options.model.order_matters)
            and not (is_full and options.places[other] == place)
        ]

    def arranged(self, of_parts: Matrix) -> tuple[int, ...]:
        """Return the chosen parts in the order of a prompt."""
        options, model = self._options, self._options.model
        if not model.order_matters:
            return tuple(sorted(self._chosen))
        demos = [index for index in self._chosen if model.parts[index].kind == "demo"]
        others = sorted(set(self._chosen).difference(demos))
        exchange = _Exchange(model, self._effects, options.candidates, of_parts, options.rows)
        return exchange.best([*others, *reversed(demos)])


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


def _most(part: Part, caps: Caps) -> float:
    """Return how many parts a prompt holds at most in the part's place."""
    if part.kind == "omission":
        return math.inf
    return {"demo": caps.demos, "rule": caps.rules}.get(part.kind, 1)


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
