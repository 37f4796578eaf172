"""Estimates of how good the best program is, and of what more rollouts would add to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.search.evidence import Evidence
from simba_actors.search.model.effects import ScoreRange
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.rollout import JSON
from simba_actors.search.statistics.intervals import ERROR, wilson, z_value
from simba_actors.search.statistics.mixed_model import sigmoid


@dataclass(frozen=True, slots=True)
class Quality:
    """The mean score that the search expects a program to have on the trainset, with its 95 % interval.

    It decides what is best and when a run ends. With `policy="adaptive"` it draws on the rollouts of all programs that
    have a part in common, so it is not the mean of the program's own rollouts, which `Status.best` has.
    """

    program: int
    """The program's number in the pool."""
    mean: float
    """The expected mean score, in the metric's units, as are both ends of the interval."""
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_json(self) -> JSON:
        return [self.program, self.mean, self.low, self.high]

    @classmethod
    def from_json(cls, stored: JSON) -> Quality | None:
        return None if stored is None else cls(*cast("list[Any]", stored))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the rest of a search is expected to add to its best program."""

    gain: float
    """Expected increase of the best program's mean score, in the metric's units."""
    share: float
    """The same as a share of the metric's range."""
    spent: int
    """Rollouts so far."""
    left: int
    """Rollouts of the rest of the search."""

    def to_json(self) -> JSON:
        return [self.gain, self.share, self.spent, self.left]

    @classmethod
    def from_json(cls, stored: JSON) -> Outlook | None:
        return None if stored is None else cls(*cast("list[Any]", stored))


def best_by_model(model: PartModel) -> Quality:
    """Return the best of all programs by a model of their parts.

    Estimates from few rollouts are shrunk towards what the other rollouts say, so that the best of many programs is not
    just the luckiest.
    """
    qualities = model.qualities
    best = max(sorted(qualities), key=qualities.__getitem__)
    half = z_value(ERROR) * model.deviation(best)
    middle = _logit(qualities[best])
    low, high = (float(sigmoid(log_odds)) for log_odds in (middle - half, middle + half))
    to_score = model.range.from_unit
    return Quality(best, to_score(qualities[best]), to_score(low), to_score(high))


def _logit(share: float) -> float:
    """Return the log-odds of a share, which is kept off 0 and 1 so that they are finite."""
    kept = min(max(share, 1e-9), 1 - 1e-9)
    return math.log(kept / (1 - kept))


def best_by_batch(evidence: Evidence) -> Quality | None:
    """Return the candidate with the best mean on its own batch. Return None if no candidate was evaluated.

    The error of the interval is divided by the number of candidates (Bonferroni), since the best of many is lucky.
    """
    scores = {program: [float(s.score) for s in evidence.of(program, "evaluate")] for program in evidence.programs()}
    means = {program: sum(own) / len(own) for program, own in scores.items() if own}
    if not means:
        return None
    best = max(means, key=means.__getitem__)
    known = ScoreRange.of([score for own in scores.values() for score in own])
    low, high = wilson(known.to_unit(means[best]), len(scores[best]), ERROR / len(means))
    return Quality(best, means[best], known.from_unit(low), known.from_unit(high))
