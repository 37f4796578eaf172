"""What a step learns new parts from: which strategy is shown which trajectories, and how often."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, islice

from simba_actors.search.buckets import Bucket

RECOMBINE, MERGE_RULES = "recombine", "merge_rules"
"""Strategies that learn from no trajectories: the first makes no new parts, the second new ones of old ones."""

LEARNS_FROM_SUCCESS = "append_a_demo"
LEARNS_FROM_LABELS = "append_labeled_demos"
"""Strategies that make demos: the first is shown a success, the second what failed most and as many other rows as the
prompt holds. Others are shown failures."""

ROOTS_A_LESSON = 4.0
"""A step of n rollouts has sqrt(n) / `ROOTS_A_LESSON` applications of a strategy to one predictor. With n times the
rollouts there are so sqrt(n) times the parts, and each is tried sqrt(n) times as often: small runs need parts to choose
from, and large ones need to know what theirs are worth."""

FAILURES_A_RULE = 2


def lessons_of(strategies: Sequence[str], rollouts: int, predictors: int) -> dict[str, int]:
    """How often a step of so many rollouts applies each strategy that learns from trajectories."""
    makers = [name for name in strategies if name not in (RECOMBINE, MERGE_RULES)]
    of_demos = [name for name in makers if name in (LEARNS_FROM_SUCCESS, LEARNS_FROM_LABELS)]
    writers = [name for name in makers if name not in of_demos]
    lessons = math.sqrt(rollouts) / (ROOTS_A_LESSON * predictors)
    return {name: max(1, round(lessons / len(kind))) for kind in (writers, of_demos) for name in kind}


def extended(lessons: Mapping[str, int], candidates: int) -> dict[str, int]:
    """More lessons of each kind, in turn, until they make so many candidates: a young run has little to combine."""
    times = dict(lessons)
    for name in islice(cycle(lessons), max(0, candidates - sum(lessons.values()))):
        times[name] += 1
    return times


def failures_needed(lessons: Mapping[str, int]) -> int:
    """Buckets with a failure that rules are to be written from."""
    of_demos = (LEARNS_FROM_SUCCESS, LEARNS_FROM_LABELS)
    return FAILURES_A_RULE * sum(times for name, times in lessons.items() if name not in of_demos)


def assign(
    lessons: Mapping[str, int], buckets: Sequence[Bucket], best_score: float, fills: Sequence[Sequence[int]]
) -> list[tuple[list[str], list[int]]]:
    """Strategies in the order to try them, and the rows to learn from, for each lesson that has any.

    A score below `best_score`, or below the best of these buckets, is a failure. `fills` has, for each lesson from
    labels, rows that no trajectory need be known of; strategies that learn from trajectories are not tried on those.
    """
    best_score = max([best_score, *(bucket.max_score for bucket in buckets)])
    failures = [bucket for bucket in buckets if bucket.worst.trajectory.score < best_score]
    successes = sorted(buckets, key=lambda bucket: (-bucket.max_score, bucket.worst.trajectory.score))
    never_right = sorted(failures, key=lambda bucket: bucket.max_score)
    filling = iter(fills)
    assigned: list[tuple[list[str], list[int]]] = []
    for name, times in lessons.items():
        others = [other for other in lessons if other != name]
        for _ in range(times):
            fill: Sequence[int] = ()
            if name == LEARNS_FROM_SUCCESS:
                shown, successes = successes[:1], successes[1:]
            elif name == LEARNS_FROM_LABELS:
                shown, never_right = never_right[:1], never_right[1:]
                fill = next(filling)
            else:
                shown, failures = failures[:FAILURES_A_RULE], failures[FAILURES_A_RULE:]
            own = [bucket.example for bucket in shown]
            rows = list(dict.fromkeys([*own, *fill]))[: max(len(own), len(fill))]
            if rows:
                assigned.append(([name, *(others if own else ())], rows))
    return assigned
