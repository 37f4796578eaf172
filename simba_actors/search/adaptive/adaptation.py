"""Parameters of the search that follow the evidence: how hot to sample, how many rows a step has, how many candidates.

Each rule here has a measurement, a threshold and a reason in words. A change is told of as an event `ParameterAdapted`,
and what is in force is part of the policy's state, so that a run that was killed goes on with it. How many demos a
prompt has is no parameter: what each demo adds is estimated (see `part_model`), and a combination holds those that pay.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.part_model import ScoreRange
from simba_actors.search.statistics.intervals import wilson
from simba_actors.search.trajectory import JSON

WINDOW = 3
"""Steps that are looked back on."""

LEAST = 12
"""Rollouts, or buckets, that it takes to conclude anything."""

COOLER, COOLEST, HOTTEST = 0.75, 0.3, 1.0
"""A sampling temperature is multiplied by `COOLER`, or divided by it. `HOTTEST` is `dspy.SIMBA`'s, and the highest that
every provider takes."""

LEAST_PAIRS = 60
"""Buckets of two trajectories that it takes to measure noise."""

HARDLY_DIFFER = 0.2
"""Share of unsolved buckets whose trajectories score differently, below which there is next to nothing to compare."""

MOST_BATCH = 2
"""A batch grows to so many times its usual size at most: what it costs is taken from the evaluation of candidates."""

USUAL_NOISE = 0.4
"""Standard deviation of a binary score of a middling example, from rollout to rollout, on a scale from 0 to 1: what the
usual number of rollouts a candidate is for."""

LEAST_ROLLOUTS = 0.6
"""The least rollouts of a candidate, as a share of the usual number."""

DEAD_BAND = 0.2
"""Relative change below which a parameter stays as it is: it would only follow the noise of its own measurement."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is in force: the temperature of trajectories sampled afresh, the rows of a step's batch, and the rollouts of
    each candidate, which say how many candidates a step can have."""

    temperature: float
    batch_size: int
    rollouts_a_candidate: int

    def to_json(self) -> JSON:
        return [self.temperature, self.batch_size, self.rollouts_a_candidate]

    @classmethod
    def from_json(cls, stored: JSON) -> Parameters:
        return cls(*cast("list[Any]", stored))


@dataclass(frozen=True, slots=True)
class Adaptation:
    """One change of a parameter, and why."""

    parameter: str
    before: float
    after: float
    reason: str

    def to_json(self) -> JSON:
        return [self.parameter, self.before, self.after, self.reason]


def adapt(
    now: Parameters, usual: Parameters, evidence: Evidence, step: int, scores: ScoreRange, failures_needed: int
) -> tuple[Parameters, tuple[Adaptation, ...]]:
    """The parameters for the steps after `step`, and what changed.

    `usual` are those that the search would have without evidence. A score below the highest of `scores` is a failure,
    of which a step needs `failures_needed` to write rules from.
    """
    known = _buckets(evidence)
    buckets = [own for own in known if own[0].key.step > step - WINDOW]
    failing = [own for own in buckets if min(score.score for score in own) < scores.high]
    changes = [
        _temperature(now, usual, buckets, failing),
        _batch_size(now, usual, buckets, failing, failures_needed),
        _rollouts_a_candidate(now, usual, known, scores),
    ]
    adaptations = tuple(change for change in changes if change is not None)
    values: dict[str, Any] = {change.parameter: change.after for change in adaptations}
    return replace(now, **values), adaptations


def _buckets(evidence: Evidence) -> list[list[Score]]:
    """What the student's own LM scored where trajectories were sampled, an example and step at a time."""
    buckets: defaultdict[tuple[int, int], list[Score]] = defaultdict(list)
    for program in evidence.programs():
        for score in evidence.of(program, "sample"):
            if score.model.is_student_lm:
                buckets[score.key.step, score.example].append(score)
    return [buckets[key] for key in sorted(buckets)]


def _temperature(
    now: Parameters, usual: Parameters, buckets: Sequence[Sequence[Score]], failing: Sequence[Sequence[Score]]
) -> Adaptation | None:
    """Cooler where heat makes most trajectories fail outright, hotter again where they hardly differ."""
    fresh = [score for own in buckets for score in own if score.model.temperature == now.temperature]
    plain = [score for own in buckets for score in own if score.model.temperature is None]
    broken, broken_plain = (sum(score.failed for score in scores) for scores in (fresh, plain))
    if len(fresh) >= LEAST and wilson(broken / len(fresh), len(fresh))[0] > 0.5 and broken_plain * 2 < len(plain):
        after = max(now.temperature * COOLER, COOLEST)
        reason = f"{broken} of {len(fresh)} trajectories sampled at it failed, {broken_plain} of {len(plain)} without"
        return _changed("temperature", now.temperature, after, reason)
    compared = [own for own in failing if len(own) > 1 and any(s.model.temperature == now.temperature for s in own)]
    differing = sum(len({float(score.score) for score in own}) > 1 for own in compared)
    if len(compared) >= LEAST and wilson(differing / len(compared), len(compared))[1] < HARDLY_DIFFER:
        after = min(now.temperature / COOLER, usual.temperature)
        reason = f"trajectories differ in {differing} of {len(compared)} buckets that are not solved"
        return _changed("temperature", now.temperature, after, reason)
    return None


def _batch_size(
    now: Parameters,
    usual: Parameters,
    buckets: Sequence[Sequence[Score]],
    failing: Sequence[Sequence[Score]],
    failures_needed: int,
) -> Adaptation | None:
    """As many rows as it takes to meet the failures that rules are written from: they get rare as programs get good."""
    if len(buckets) < LEAST:
        return None
    share = wilson(len(failing) / len(buckets), len(buckets))[1]  # Rare beyond doubt, or they count as usual.
    rows = max(usual.batch_size, min(math.ceil(failures_needed / share), MOST_BATCH * usual.batch_size))
    reason = (
        f"{len(failing)} of {len(buckets)} buckets have a failure, and rules are to be written from {failures_needed}"
    )
    return _beyond_dead_band("batch_size", now.batch_size, rows, reason)


def _rollouts_a_candidate(
    now: Parameters, usual: Parameters, buckets: Sequence[Sequence[Score]], scores: ScoreRange
) -> Adaptation | None:
    """Fewer rollouts each, and so more candidates, where the metric is quieter than a binary one.

    The noise is the mean square of differences between two rollouts of the same program and example, halved; the high
    end of its interval has to be below the usual.
    """
    pairs = [tuple(scores.to_unit(score.score) for score in own[:2]) for own in buckets if len(own) > 1]
    if len(pairs) < LEAST_PAIRS:
        return None
    noise = math.sqrt(wilson(sum((one - other) ** 2 for one, other in pairs) / len(pairs), len(pairs))[1] / 2)
    share = min(1.0, max(LEAST_ROLLOUTS, (noise / USUAL_NOISE) ** 2))
    reason = f"the noise of a score is at most {noise:.2f} on a scale from 0 to 1, by {len(pairs)} pairs of rollouts"
    rollouts = round(usual.rollouts_a_candidate * share)
    return _beyond_dead_band("rollouts_a_candidate", now.rollouts_a_candidate, rollouts, reason)


def _beyond_dead_band(parameter: str, before: int, after: int, reason: str) -> Adaptation | None:
    return None if abs(after - before) < DEAD_BAND * before else _changed(parameter, before, after, reason)


def _changed(parameter: str, before: float, after: float, reason: str) -> Adaptation | None:
    return None if after == before else Adaptation(parameter, before, after, reason)
