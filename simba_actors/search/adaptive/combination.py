"""The best prompt that can be put together from known parts, given estimates of their effects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from simba_actors.search.model.effects import CROWDING_SCALE, Effects
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import UNCOUNTED, Part
from simba_actors.search.settings import Caps
from simba_actors.search.statistics.linear_algebra import Booleans, Float32Array, Indices
from simba_actors.search.statistics.mixed_model import mean_sigmoid

LEAST_GAIN = 1e-4
"""Expected score that a part must add to be taken, on a scale from 0 to 1. In planted worlds, leaving out parts that
add less than 0.005 made winners of 11 parts in place of 13 and changed the gain by -0.02 ± 0.09 from 1.39."""

CHOSEN_ON = 128
"""Maximum number of panel examples on which parts are chosen one by one. The arithmetic takes time in proportion to it;
with fewer, what a part is worth is the mean over fewer examples."""

AT_A_TIME = 16
"""Number of combinations that are found side by side. Arrays for more would not fit into a core's cache."""

SWEEPS = 2
"""Exchanges tried per demo. Few are left to make after the second."""


def best_combinations(
    model: PartModel, possible: Sequence[Effects], candidates: Sequence[int], caps: Caps
) -> list[tuple[int, ...]]:
    """Return, for each of the `possible` effects, indices of the parts that are best together.

    They are chosen one by one from `candidates`, each the one that adds most on the panel. Parts that help on the same
    examples, or show the same answers, add less and less together, so complementary ones are found. Greedy choice is
    within 1 - 1/e of the best where gains only diminish (G. Nemhauser, L. Wolsey and M. Fisher, "An analysis of
    approximations for maximizing submodular set functions", 1978). Where the order of demos matters, the last demo is
    chosen first, and exchanges of single demos follow.

    The choices under all effects are made side by side. One alone would take less time for its arithmetic than for its
    calls of NumPy.
    """
    if not len(candidates):
        return [() for _ in possible]
    found: list[tuple[int, ...]] = []
    for start in range(0, len(possible), AT_A_TIME):
        choice = _Choice(model, possible[start : start + AT_A_TIME], candidates, caps)
        while choice.left.any():
            choice.choose()
        found += choice.arranged()
    return found


class _Choice:
    """The parts chosen so far under each of the `possible` effects.

    Single precision takes half the time and is far more precise than `LEAST_GAIN`.
    """

    def __init__(self, model: PartModel, possible: Sequence[Effects], candidates: Sequence[int], caps: Caps) -> None:
        self._model, self._possible, self._candidates = model, possible, list(candidates)
        self._rows = rows = slice(None, None, -(-model.panel // CHOSEN_ON))
        self._answers: Float32Array = model.composition.shows[self._candidates, rows].astype(np.float32)
        """Share of each example's answer that each candidate shows, from 0 to 1: candidates x examples."""
        self._of_parts = self._effects_of_parts()
        """What each candidate by itself would add to the log-odds: possible effects x candidates x examples."""
        self._shows_any = bool(self._answers.any())
        self._worth_of_showing: Float32Array = np.array([effects.shown for effects in possible], dtype=np.float32)
        self._added: Float32Array = self._worth_of_showing[:, None, None] * self._answers
        self._added += self._of_parts
        """What each candidate would add by itself and by the answer that it shows, in the same shape."""
        self._log_odds: Float32Array = np.array([effects.student[rows] for effects in possible], dtype=np.float32)
        """Log-odds with the chosen parts: possible effects x examples."""
        self._shown: Float32Array = np.zeros(self._log_odds.shape, dtype=np.float32)
        """Share of the answer that the chosen parts show, in the same shape."""
        self._quality: Float32Array = mean_sigmoid(self._log_odds)
        """Expected score with the chosen parts, from 0 to 1, under each of the possible effects."""
        self._chosen: list[list[int]] = [[] for _ in possible]
        """The chosen parts in the order of their choice, under each of the possible effects."""

        parts = [model.parts[index] for index in candidates]
        first = {part.place: part for part in parts}
        places = {place: index for index, place in enumerate(first)}
        self._place = np.array([places[part.place] for part in parts], dtype=np.int64)
        self._places_of_demos = [places[part.place] for part in first.values() if part.kind == "demo"]
        self._most = np.array([_most(part, caps) for part in first.values()])
        """Maximum number of parts in each place."""
        self._of_length, self._of_crowding = _effects_of_length(possible, list(first.values()))
        """What the length of the next part in each place adds to the log-odds (possible effects x places), and how much
        that grows with each part that is chosen (possible effects x place of the chosen part x places)."""
        self._held = np.zeros((len(possible), len(first)), dtype=np.int64)
        """Number of chosen parts in each place: possible effects x places."""
        self.left: Booleans = np.tile(self._most[self._place] > 0, (len(possible), 1))
        """Whether each candidate may be chosen next: possible effects x candidates."""

    def _effects_of_parts(self) -> Float32Array:
        """Return the effect of each candidate on each example under each of the possible effects."""
        candidates, possible = self._candidates, self._possible
        relevance: Float32Array = self._model.composition.relevance_on_panel[candidates, self._rows].astype(np.float32)
        nearby = np.array([effects.nearby[candidates] for effects in possible], dtype=np.float32)
        same_answer = np.array([effects.same_answer for effects in possible], dtype=np.float32)
        everywhere = np.array([effects.everywhere[candidates] for effects in possible], dtype=np.float32)
        of_parts = nearby[:, :, None] * relevance
        of_parts += same_answer[:, None, None] * self._answers
        of_parts += everywhere[:, :, None]
        return of_parts

    def choose(self) -> None:
        """Choose the best of the parts that are left, if it adds enough."""
        possible, part = np.nonzero(self.left)
        log_odds = self._log_odds_with(possible, part)
        qualities = np.full(self.left.shape, -np.inf)
        qualities[possible, part] = mean_sigmoid(log_odds)
        best = qualities.argmax(axis=1)
        every = np.arange(len(best))
        chosen = qualities[every, best] >= self._quality + LEAST_GAIN
        # A part that makes a prompt worse now will hardly make it better later, unless its position matters.
        if not self._model.order_matters:
            self.left &= qualities >= self._quality[:, None]
        self.left &= chosen[:, None]
        every, best = every[chosen], best[chosen]
        self.left[every, best] = False
        place = self._place[best]
        self._held[every, place] += 1
        self._of_length[every] += self._of_crowding[every, place]
        self.left &= (self._held < self._most)[:, self._place]
        self._quality[every] = qualities[every, best]
        row = np.zeros(qualities.shape, dtype=np.int64)
        row[possible, part] = np.arange(len(part))
        self._log_odds[every] = log_odds[row[every, best]]
        for n, index in zip(every.tolist(), best.tolist(), strict=True):
            self._chosen[n].append(self._candidates[index])
        if self._shows_any:
            self._show(every, best)

    def _show(self, every: Indices, best: Indices) -> None:
        """Take into account that the best parts show their answers."""
        shown = np.maximum(self._shown[every], self._answers[best])
        newly = (shown > self._shown[every]).any(axis=1)
        every, shown = every[newly], shown[newly]
        self._shown[every] = shown
        added = self._answers - shown[:, None]
        np.maximum(added, 0.0, out=added)
        added *= self._worth_of_showing[every, None, None]
        added += self._of_parts[every]
        self._added[every] = added

    def _log_odds_with(self, possible: Indices, part: Indices) -> Float32Array:
        """Return the log-odds of each example under each of these effects with one of the candidates added."""
        log_odds = self._added[possible, part]
        log_odds += self._log_odds[possible]
        log_odds += self._of_length[possible, self._place[part], None]
        if self._model.order_matters:
            self._add_effects_of_order(log_odds, possible, part)
        return log_odds

    def _add_effects_of_order(self, log_odds: Float32Array, possible: Indices, part: Indices) -> None:
        """Add the effect of placing each demo before those that are chosen already to the log-odds."""
        place = self._place[part]
        for n, effects in enumerate(self._possible):
            for of_demos in self._places_of_demos:
                alike = np.flatnonzero((possible == n) & (place == of_demos))
                if len(alike):
                    indices: list[int] = part[alike].tolist()
                    demos = [self._candidates[index] for index in indices]
                    position = int(self._held[n, of_demos])
                    of_order = self._model.order.effect_at(position, demos, effects.in_order)
                    log_odds[alike] += of_order[:, self._rows]

    def arranged(self) -> Iterator[tuple[int, ...]]:
        """Yield the chosen parts in the order of a prompt."""
        model = self._model
        for effects, of_parts, chosen in zip(self._possible, self._of_parts, self._chosen, strict=True):
            if not model.order_matters:
                yield tuple(sorted(chosen))
                continue
            demos = [index for index in chosen if model.parts[index].kind == "demo"]
            others = sorted(set(chosen).difference(demos))
            exchange = _Exchange(model, effects, self._candidates, of_parts, self._rows)
            yield exchange.best([*others, *reversed(demos)])


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Coordinate ascent over the demos of a prompt, on the panel.

    It also finds better orders, since any demo's position may go to a part that is not in the prompt.
    """

    model: PartModel
    effects: Effects
    candidates: Sequence[int]
    """Parts to choose from."""
    of_parts: Float32Array
    """Effect of each candidate on each example."""
    rows: slice
    """The examples of the panel to choose on."""

    def best(self, parts: Sequence[int]) -> tuple[int, ...]:
        """Replace each demo in turn by the part that adds most in its position, until no exchange adds anything."""
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
        there = self.of_parts[options] + self.model.order.effect_at(position, parts, effects.in_order)[:, rows]
        shown = self.model.composition.answers_shown([part for part in arranged if part != own])[rows]
        there += effects.shown * np.maximum(effects.shows[parts, rows], shown)
        without_own = self.model.log_odds_of(arranged, effects)[rows] - there[parts.index(own)]
        qualities = mean_sigmoid(without_own + there)
        best = int(qualities.argmax())
        return parts[best] if qualities[best] > qualities[parts.index(own)] else own


def _effects_of_length(possible: Sequence[Effects], parts: Sequence[Part]) -> tuple[Float32Array, Float32Array]:
    """Return how the length alone changes the log-odds when an empty prompt gets a part in the place of one of `parts`.

    The second result is how much more it does so after each part in the place of another: that is its second index.
    """
    counted = np.array([part.kind not in UNCOUNTED for part in parts])
    same_prompt = np.array([[part.predictor == other.predictor for other in parts] for part in parts])
    lengths = [effects.length for effects in possible]
    own = np.array([[length.demo if part.kind == "demo" else length.rule for part in parts] for length in lengths])
    crowding = np.array([length.crowding / CROWDING_SCALE for length in lengths])
    first = (own + crowding[:, None]) * counted
    more = 2 * crowding[:, None, None] * (same_prompt & counted & counted[:, None])
    return first.astype(np.float32), more.astype(np.float32)


def _most(part: Part, caps: Caps) -> float:
    """Return how many parts a prompt holds at most in the part's place."""
    if part.kind == "omission":
        return math.inf
    return {"demo": caps.demos, "rule": caps.rules}.get(part.kind, 1)
