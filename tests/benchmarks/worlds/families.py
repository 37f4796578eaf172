"""Families of worlds: differences between families are written here, those within one are drawn."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from tests.benchmarks.worlds.world import World


def _few_topics(name: str, seed: int, draw: random.Random) -> World:
    return World(name, seed, topics=draw.randint(3, 5), base=draw.uniform(-0.9, -0.2), hardness=draw.uniform(0.6, 1.2))


def _many_topics(name: str, seed: int, draw: random.Random) -> World:
    return World(name, seed, topics=draw.randint(9, 13), base=draw.uniform(-0.6, 0.0), roomy=12, crowding=0.1)


def _graded(name: str, seed: int, draw: random.Random) -> World:
    topics, parts = draw.randint(4, 8), draw.randint(3, 6)
    return World(name, seed, topics=topics, parts=parts, base=draw.uniform(-0.8, 0.0), hardness=1.4, demo_gain=0.6)


def _pipeline(name: str, seed: int, draw: random.Random) -> World:
    return World(name, seed, topics=draw.randint(3, 6), stages=2, base=draw.uniform(-0.7, -0.2), advice_gain=1.4)


def _noisy(name: str, seed: int, draw: random.Random) -> World:
    return World(name, seed, topics=draw.randint(4, 7), noise=draw.uniform(0.15, 0.3), hardness=1.8, misleading=0.3)


def _crowded(name: str, seed: int, draw: random.Random) -> World:
    topics = draw.randint(4, 6)
    return World(name, seed, topics=topics, roomy=4, crowding=0.2, good_advice=0.35, bad_advice=0.4, misleading=0.3)


def _labels(name: str, seed: int, draw: random.Random) -> World:
    labels = draw.randint(3, 5)
    pull = draw.uniform(0.6, 1.2)
    return World(name, seed, topics=2 * labels, labels=labels, label_pull=pull, base=-1.0, roomy=12, demo_gain=0.3)


def _defective_seed(name: str, seed: int, draw: random.Random) -> World:
    """The student's own instructions do harm: all of them in every third world, most of them in the others."""
    topics = draw.randint(4, 6)
    merits = 0 if seed % 3 == 0 else 2
    return World(name, seed, topics=topics, base=draw.uniform(-0.5, 0.1), roomy=12, merits=merits, defects=topics - 1)


def _good_seed(name: str, seed: int, draw: random.Random) -> World:
    """The worlds of the family above, without the harmful instructions of the student."""
    return replace(_defective_seed("defective_seed", seed, random.Random(f"defective_seed {seed}")), defects=0)


def _no_headroom(name: str, seed: int, draw: random.Random) -> World:
    """No prompt helps: advice does nothing, or harms a little, and demos do nothing."""
    topics, base = draw.randint(3, 7), draw.uniform(-0.5, 0.8)
    bad = draw.uniform(0.0, 0.3)
    return World(name, seed, topics=topics, base=base, good_advice=0.0, bad_advice=bad, advice_gain=0.6, demo_gain=0.0)


def _trap(name: str, seed: int, draw: random.Random) -> World:
    """Most changes do harm."""
    topics, base = draw.randint(3, 6), draw.uniform(0.0, 0.8)
    return World(
        name,
        seed,
        topics=topics,
        base=base,
        good_advice=0.1,
        bad_advice=0.7,
        advice_gain=1.0,
        demo_gain=0.1,
        misleading=0.6,
        roomy=4,
    )


def _long_pipeline(name: str, seed: int, draw: random.Random) -> World:
    topics = draw.randint(3, 5)
    return World(name, seed, topics=topics, stages=4, base=draw.uniform(-0.4, 0.1), advice_gain=1.4)


def _feedback(name: str, seed: int, draw: random.Random) -> World:
    topics = draw.randint(5, 9)
    return World(name, seed, topics=topics, base=draw.uniform(-0.8, -0.2), good_advice=0.2, names_cause=0.5)


def _many_rows(name: str, seed: int, draw: random.Random) -> World:
    return World(name, seed, topics=12, tail=draw.uniform(1.6, 2.4), base=draw.uniform(-0.6, 0.0), roomy=12)


EXAMPLES = {"many_rows": 2_000}
"""Number of examples in the trainset, where it is not 200."""

FAMILIES: dict[str, Callable[[str, int, random.Random], World]] = {
    "few_topics": _few_topics,
    "many_topics": _many_topics,
    "graded": _graded,
    "pipeline": _pipeline,
    "noisy": _noisy,
    "crowded": _crowded,
    "labels": _labels,
    "defective_seed": _defective_seed,
    "no_headroom": _no_headroom,
    "trap": _trap,
    "long_pipeline": _long_pipeline,
    "feedback": _feedback,
    "many_rows": _many_rows,
}

TWINS = {"good_seed": _good_seed}
"""Worlds that a family is compared with."""


def world_of(family: str, seed: int) -> World:
    """Return the world of a family and seed, which is always the same."""
    return {**FAMILIES, **TWINS}[family](family, seed, random.Random(f"{family} {seed}"))
