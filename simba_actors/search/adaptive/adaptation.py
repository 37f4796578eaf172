"""Parameters of the search that follow the evidence: sampling temperature, batch size, rollouts per candidate.

Each rule has a measurement, a threshold, and a reason. A change is reported by the event `ParameterAdapted`.
The values in force are part of the policy's state, so a killed run resumes with them. The number of demos in a prompt
is not one of them: the model estimates what each demo adds (see `search.model.part_model`), and a combination has those
that pay.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.effects import ScoreRange
from simba_actors.search.rollout import JSON
from simba_actors.search.statistics.intervals import wilson

WINDOW = 3
"""Number of latest steps from which temperature and batch size are adapted."""

REMEMBERED = 1_000
"""Buckets from which the noise of the metric is measured; more would not improve the estimate."""

LEAST_COUNT = 12
"""Rollouts, or buckets, needed before anything is concluded from them. With fewer, parameters change sooner, on less.
By Wilson's interval, 10 failures of 12 show that most samples fail; it takes all of 6, and 17 of 24."""

COOLING = 0.75
"""Factor by which a sampling temperature is lowered. It is raised by the inverse. Five changes lead from `HOTTEST` to
`COOLEST`: with a smaller factor fewer samples break before it is cool enough, and it may become cooler than needed."""

COOLEST, HOTTEST = 0.3, 1.0
"""Limits of the sampling temperature. The upper one is `dspy.SIMBA`'s, and the highest that every provider accepts. The
cooler the samples, the fewer break, and the less those of one example differ, which is what rules are learned from."""

LEAST_PAIRS = 60
"""Buckets of two trajectories needed to measure noise. A noise of 0.22 counts as 0.32 with 60, the high end of its
interval; with 30 it would be known sooner and count as 0.36, with 120 it counts as 0.29."""

HARDLY_DIFFER = 0.2
"""Minimum share of unsolved buckets whose trajectories score differently; below it, there is little to compare."""

MOST_BATCH = 2
"""Largest batch, as a multiple of the usual one. Its rollouts are taken from the evaluation of candidates."""

USUAL_NOISE = 0.4
"""Standard deviation between rollouts of a binary score on an example of medium difficulty, on a scale from 0 to 1. The
usual number of rollouts per candidate is meant for it."""

LEAST_ROLLOUTS = 0.6
"""Fewest rollouts per candidate, as a share of the usual number: 10 of 16. In planted worlds with a binary metric, 8
changed the gain by 0.03 ± 0.05 from 1.38, and 24 by -0.05 ± 0.05 (tests/benchmarks/README.md)."""

DEAD_BAND = 0.2
"""Relative change below which a parameter stays as it is: it would only follow the noise of its own measurement."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The values in force."""

    temperature: float
    """LM temperature of trajectories that are sampled afresh."""
    batch_size: int
    """Examples per step."""
    rollouts_per_candidate: int
    """Rollouts per candidate, which decides how many candidates a step can have."""

    def to_json(self) -> JSON:
        return [self.temperature, self.batch_size, self.rollouts_per_candidate]

    @classmethod
    def from_json(cls, stored: JSON) -> Parameters:
        return cls(*cast("list[Any]", stored))


@dataclass(frozen=True, slots=True)
class Adaptation:
    """A change of one parameter."""

    parameter: str
    """A field name of `Parameters`."""
    before: float
    after: float
    reason: str

    def to_json(self) -> JSON:
        return [self.parameter, self.before, self.after, self.reason]


def adapt(
    now: Parameters, usual: Parameters, evidence: Evidence, step: int, scores: ScoreRange, failures_needed: int
) -> tuple[Parameters, tuple[Adaptation, ...]]:
    """Return the parameters for the steps after `step`, and what changed.

    Args:
        now: The values in force.
        usual: The values that the search has without evidence.
        evidence: All scores so far.
        step: The step that closes.
        scores: The metric's range. A score below its highest is a failure.
        failures_needed: How many failures the rules of one step are written from.
    """
    known = _buckets(evidence, step)
    buckets = [bucket for bucket in known if bucket[0].key.step > step - WINDOW]
    failing = [bucket for bucket in buckets if min(score.score for score in bucket) < scores.high]
    changes = [
        _temperature(now, usual, buckets, failing),
        _batch_size(now, usual, buckets, failing, failures_needed),
        _rollouts_per_candidate(now, usual, known, scores),
    ]
    adaptations = tuple(change for change in changes if change is not None)
    values: dict[str, Any] = {change.parameter: change.after for change in adaptations}
    return replace(now, **values), adaptations


def _buckets(evidence: Evidence, step: int) -> list[list[Score]]:
    """Return buckets of scores: those of trajectories sampled with the student's own LM, by step and example.

    They are the latest ones up to `step`: at least `REMEMBERED` buckets if there are as many, and `WINDOW` steps.
    """
    steps: list[list[list[Score]]] = []
    for recent in range(step, -1, -1):
        if len(steps) >= WINDOW and sum(map(len, steps)) >= REMEMBERED:
            break
        buckets: defaultdict[int, list[Score]] = defaultdict(list)
        for score in evidence.sampled(recent):
            if score.model.is_student_lm:
                buckets[score.example].append(score)
        steps.append([buckets[example] for example in sorted(buckets)])
    return [bucket for buckets in reversed(steps) for bucket in buckets]


def _temperature(
    now: Parameters, usual: Parameters, buckets: Sequence[Sequence[Score]], failing: Sequence[Sequence[Score]]
) -> Adaptation | None:
    """Lower the temperature if it makes most trajectories fail outright; raise it again if they hardly differ."""
    fresh = [score for bucket in buckets for score in bucket if score.model.temperature == now.temperature]
    plain = [score for bucket in buckets for score in bucket if score.model.temperature is None]
    broken, broken_plain = (sum(score.failed for score in scores) for scores in (fresh, plain))
    if len(fresh) >= LEAST_COUNT and wilson(broken / len(fresh), len(fresh))[0] > 0.5 and broken_plain * 2 < len(plain):
        after = max(now.temperature * COOLING, COOLEST)
        reason = (
            f"{broken} of {len(fresh)} trajectories sampled at {now.temperature:g} failed, but only {broken_plain} of "
            f"{len(plain)} at the LM's own temperature"
        )
        return _changed("temperature", now.temperature, after, reason)
    several = [bucket for bucket in failing if len(bucket) > 1]
    compared = [bucket for bucket in several if any(s.model.temperature == now.temperature for s in bucket)]
    differing = sum(len({float(score.score) for score in bucket}) > 1 for bucket in compared)
    if len(compared) >= LEAST_COUNT and wilson(differing / len(compared), len(compared))[1] < HARDLY_DIFFER:
        after = min(now.temperature / COOLING, usual.temperature)
        reason = f"trajectories score differently in only {differing} of {len(compared)} buckets that are not solved"
        return _changed("temperature", now.temperature, after, reason)
    return None


def _batch_size(
    now: Parameters,
    usual: Parameters,
    buckets: Sequence[Sequence[Score]],
    failing: Sequence[Sequence[Score]],
    failures_needed: int,
) -> Adaptation | None:
    """Sample enough examples to find the failures that rules are written from, which get rarer as programs improve."""
    if len(buckets) < LEAST_COUNT:
        return None
    share = wilson(len(failing) / len(buckets), len(buckets))[1]  # The high end: failures must be rare beyond doubt.
    examples = max(usual.batch_size, min(math.ceil(failures_needed / share), MOST_BATCH * usual.batch_size))
    reason = f"{len(failing)} of {len(buckets)} buckets have a failure, and rules need {failures_needed} failures"
    return _beyond_dead_band("batch_size", now.batch_size, examples, reason)


def _rollouts_per_candidate(
    now: Parameters, usual: Parameters, buckets: Sequence[Sequence[Score]], scores: ScoreRange
) -> Adaptation | None:
    """Give each candidate fewer rollouts, and so try more candidates, if the metric is less noisy than a binary one.

    The noise is a standard deviation. Its square is half the mean square of the differences between two rollouts of one
    program on one example, and the high end of the interval of that mean counts.
    """
    differences = [(bucket[0].score - bucket[1].score) / scores.width for bucket in buckets if len(bucket) > 1]
    if len(differences) < LEAST_PAIRS:
        return None
    pairs = len(differences)
    noise = math.sqrt(wilson(sum(difference**2 for difference in differences) / pairs, pairs)[1] / 2)
    share = min(1.0, max(LEAST_ROLLOUTS, (noise / USUAL_NOISE) ** 2))
    reason = f"the noise of a score is at most {noise:.2f} on a scale from 0 to 1, by {pairs} pairs of rollouts"
    rollouts = round(usual.rollouts_per_candidate * share)
    return _beyond_dead_band("rollouts_per_candidate", now.rollouts_per_candidate, rollouts, reason)


def _beyond_dead_band(parameter: str, before: int, after: int, reason: str) -> Adaptation | None:
    return None if abs(after - before) < DEAD_BAND * before else _changed(parameter, before, after, reason)


def _changed(parameter: str, before: float, after: float, reason: str) -> Adaptation | None:
    return None if after == before else Adaptation(parameter, before, after, reason)
