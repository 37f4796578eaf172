"""Allocation of a step's applications to strategies, and of examples to each application."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, islice

from simba_actors.search.buckets import BucketScores

RECOMBINE = "recombine"
MERGE_RULES = "merge_rules"
OMIT_SENTENCES = "omit_sentences"
WITHOUT_BUCKETS = (RECOMBINE, MERGE_RULES, OMIT_SENTENCES)
"""Strategies that learn from no bucket: the first makes no new parts, the second makes new parts of old ones, and the
parts of the third are known from the start."""

APPEND_A_DEMO = "append_a_demo"
APPEND_LABELED_DEMOS = "append_labeled_demos"
MAKES_DEMOS = (APPEND_A_DEMO, APPEND_LABELED_DEMOS)
"""Strategies that make demos: the first from a success, the second from the labels of an example that failed and of as
many others as the prompt holds. All other strategies learn from failures."""

ASK_NO_LM = (RECOMBINE, OMIT_SENTENCES, *MAKES_DEMOS)
"""Strategies that make programs without calling an LM."""

ROOTS_PER_APPLICATION = 4.0
"""A step of n rollouts applies strategies sqrt(n) / `ROOTS_PER_APPLICATION` times per predictor. With n times the
rollouts there are sqrt(n) times the parts, each tried sqrt(n) times as often: small runs need parts to choose from, and
large ones need to know what theirs are worth."""

FAILURES_PER_RULE = 2
"""Failures that a rule is written from. With 1, runs in planted worlds gain 0.28 less (see `tests/benchmarks`)."""


def allocate(strategies: Sequence[str], rollouts: int, predictors: int) -> dict[str, int]:
    """Return how often a step of `rollouts` applies each strategy that makes new parts from its examples."""
    makers = [name for name in strategies if name not in WITHOUT_BUCKETS]
    of_demos = [name for name in makers if name in MAKES_DEMOS]
    writers = [name for name in makers if name not in of_demos]
    applications = math.sqrt(rollouts) / (ROOTS_PER_APPLICATION * predictors)
    return {name: max(1, round(applications / len(kind))) for kind in (writers, of_demos) for name in kind}


def extend(allocation: Mapping[str, int], candidates: int) -> dict[str, int]:
    """Add applications of each strategy in turn until there are `candidates`: a young run has little to combine."""
    extended = dict(allocation)
    for name in islice(cycle(allocation), max(0, candidates - sum(allocation.values()))):
        extended[name] += 1
    return extended


def failures_needed(allocation: Mapping[str, int]) -> int:
    """Return how many failures the allocated rules are to be written from."""
    return FAILURES_PER_RULE * sum(times for name, times in allocation.items() if name not in MAKES_DEMOS)


def assign(
    allocation: Mapping[str, int],
    buckets: Sequence[BucketScores],
    best_score: float,
    demo_examples: Sequence[Sequence[int]],
) -> list[tuple[list[str], list[int]]]:
    """Return, for each application that has something to learn from, the strategies to try in order and the examples.

    A score below `best_score`, or below the best of these buckets, is a failure. `demo_examples` has further examples
    for each application of `append_labeled_demos`. They have no buckets, so an application that has no other examples
    does not fall back on strategies that need a bucket.
    """
    best_score = max([best_score, *(bucket.max_score for bucket in buckets)])
    failures = [bucket for bucket in buckets if bucket.min_score < best_score]
    successes = sorted(buckets, key=lambda bucket: (-bucket.max_score, bucket.min_score))
    never_right = sorted(failures, key=lambda bucket: bucket.max_score)
    further = iter(demo_examples)
    assigned: list[tuple[list[str], list[int]]] = []
    for name, times in allocation.items():
        others = [other for other in allocation if other != name]
        for _ in range(times):
            more: Sequence[int] = ()
            if name == APPEND_A_DEMO:
                taken, successes = successes[:1], successes[1:]
            elif name == APPEND_LABELED_DEMOS:
                taken, never_right = never_right[:1], never_right[1:]
                more = next(further)
            else:
                taken, failures = failures[:FAILURES_PER_RULE], failures[FAILURES_PER_RULE:]
            own = [bucket.example for bucket in taken]
            examples = list(dict.fromkeys([*own, *more]))[: max(len(own), len(more))]
            if examples:
                assigned.append(([name, *(others if own else ())], examples))
    return assigned
