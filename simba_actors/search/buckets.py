"""Buckets: the trajectories of one example side by side, the most instructive example first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simba_actors.search.rollout import Rollout, Trajectory


@dataclass(frozen=True, slots=True)
class Sample:
    """A rollout and its trajectory."""

    rollout: Rollout
    trajectory: Trajectory


@dataclass(frozen=True, slots=True)
class Bucket:
    """All samples of one example within a step."""

    example: int
    """The example's index in the trainset."""
    samples: tuple[Sample, ...]
    """The samples, best score first; equal scores keep the order of the plan."""
    max_score: float
    """The highest score."""
    max_to_min_gap: float
    """The highest score minus the lowest."""
    max_to_avg_gap: float
    """The highest score minus the mean."""

    @property
    def best(self) -> Sample:
        return self.samples[0]

    @property
    def worst(self) -> Sample:
        return self.samples[-1]


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """The distribution of a step's sampled scores."""

    sampled_mean: float
    """The mean; `dspy.SIMBA` calls it the baseline score."""
    p10: float
    """10th percentile, interpolated linearly."""
    p90: float
    """90th percentile, interpolated linearly."""


def make_buckets(batch: Sequence[int], samples: Iterable[Sample]) -> list[Bucket]:
    """Return a bucket per example of `batch`, in descending order of (max - min, max, max - mean) of its scores."""
    by_example: dict[int, list[Sample]] = {example: [] for example in batch}
    for sample in samples:
        by_example[sample.rollout.example].append(sample)
    buckets = [_bucket(example, members) for example, members in by_example.items() if members]
    return sorted(buckets, key=lambda b: (b.max_to_min_gap, b.max_score, b.max_to_avg_gap), reverse=True)


def _bucket(example: int, samples: Iterable[Sample]) -> Bucket:
    ranked = tuple(sorted(samples, key=lambda sample: sample.trajectory.score, reverse=True))
    scores = [sample.trajectory.score for sample in ranked]
    best, worst, mean = float(scores[0]), float(scores[-1]), sum(scores) / len(scores)
    return Bucket(example, ranked, best, best - worst, best - mean)


def batch_statistics(scores: Sequence[float]) -> BatchStatistics:
    """Return the statistics of `scores`, which must be in plan order, since a sum of floats depends on the order."""
    ranked = sorted(float(score) for score in scores)
    return BatchStatistics(sum(scores) / len(scores), _percentile(ranked, 10), _percentile(ranked, 90))


def _percentile(ranked: Sequence[float], percent: int) -> float:
    """Return the same as `numpy.percentile`, to the last bit, without the 0.1 s that its first call takes to import."""
    position = (len(ranked) - 1) * (percent / 100)
    below = int(position)
    fraction = position - below
    low, high = ranked[below], ranked[min(below + 1, len(ranked) - 1)]
    return high - (high - low) * (1 - fraction) if fraction >= 0.5 else low + (high - low) * fraction
