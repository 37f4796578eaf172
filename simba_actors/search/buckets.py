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
class BucketScores:
    """The scores of all samples of one example within a step."""

    example: int
    """The example's index in the trainset."""
    max_score: float
    """The highest score."""
    min_score: float
    """The lowest score."""
    max_to_min_gap: float
    """The highest score minus the lowest."""
    max_to_avg_gap: float
    """The highest score minus the mean."""


@dataclass(frozen=True, slots=True)
class Bucket(BucketScores):
    """All samples of one example within a step."""

    samples: tuple[Sample, ...]
    """The samples, best score first; equal scores keep the order of the plan."""

    @property
    def best(self) -> Sample:
        return self.samples[0]

    @property
    def worst(self) -> Sample:
        return self.samples[-1]


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """The distribution of a step's sampled scores."""

    sampled_mean: float | None
    """The mean; `dspy.SIMBA` calls it the baseline score. None without scores."""
    p10: float
    """10th percentile, interpolated linearly; 0 without scores."""
    p90: float
    """90th percentile, interpolated linearly; 0 without scores."""


def rank_buckets(batch: Sequence[int], scores: Iterable[tuple[int, float]]) -> list[BucketScores]:
    """Return the scores of each example of `batch`, in descending order of (max - min, max, max - mean).

    `scores` has a pair of example and score for each sample.
    """
    by_example: dict[int, list[float]] = {example: [] for example in batch}
    for example, score in scores:
        by_example[example].append(score)
    buckets = [BucketScores(example, *_spread(own)) for example, own in by_example.items() if own]
    return sorted(buckets, key=lambda b: (b.max_to_min_gap, b.max_score, b.max_to_avg_gap), reverse=True)


def make_bucket(example: int, samples: Iterable[Sample]) -> Bucket:
    """Return the bucket of one example's samples, of which there is at least one, in the order of the plan."""
    ranked = tuple(sorted(samples, key=lambda sample: sample.trajectory.score, reverse=True))
    return Bucket(example, *_spread([sample.trajectory.score for sample in ranked]), ranked)


def _spread(scores: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the highest score and the lowest, their difference, and that of the highest and the mean."""
    ranked = sorted(scores, reverse=True)  # A sum of floats depends on the order.
    best, worst, mean = float(ranked[0]), float(ranked[-1]), sum(ranked) / len(ranked)
    return best, worst, best - worst, best - mean


def batch_statistics(scores: Sequence[float]) -> BatchStatistics:
    """Return the statistics of `scores`, which must be in plan order, since a sum of floats depends on the order.

    A step whose examples are all set aside has no scores.
    """
    if not scores:
        return BatchStatistics(None, 0.0, 0.0)
    ranked = sorted(float(score) for score in scores)
    return BatchStatistics(sum(scores) / len(scores), _percentile(ranked, 10), _percentile(ranked, 90))


def _percentile(ranked: Sequence[float], percent: int) -> float:
    """Return the same as `numpy.percentile`, to the last bit, without the 0.1 s that its first call takes to import."""
    position = (len(ranked) - 1) * (percent / 100)
    below = int(position)
    fraction = position - below
    low, high = ranked[below], ranked[min(below + 1, len(ranked) - 1)]
    return high - (high - low) * (1 - fraction) if fraction >= 0.5 else low + (high - low) * fraction
