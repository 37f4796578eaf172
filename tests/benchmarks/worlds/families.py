"""Families of worlds: what differs between them is written here, what differs within one is drawn."""

from __future__ import annotations

import random
from collections.abc import Callable

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


FAMILIES: dict[str, Callable[[str, int, random.Random], World]] = {
    "few_topics": _few_topics,
    "many_topics": _many_topics,
    "graded": _graded,
    "pipeline": _pipeline,
    "noisy": _noisy,
    "crowded": _crowded,
    "labels": _labels,
}


def world_of(family: str, seed: int) -> World:
    """The world of that family and seed: always the same."""
    return FAMILIES[family](family, seed, random.Random(f"{family} {seed}"))
