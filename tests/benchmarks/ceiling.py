"""The gain of the best program that there is in each planted world: the most that any optimizer could find.

    python -m tests.benchmarks.ceiling            # three worlds of each family
    python -m tests.benchmarks.ceiling --families trap --seeds 10

It knows what each piece of advice and each demo is worth, and adds the best one until none helps, within the number of
rules and demos that a prompt of the adaptive policy may hold. A demo is a question of the trainset, answered rightly.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

from simba_actors.search.settings import MOST_RULES
from tests.benchmarks.worlds import EXAMPLES, FAMILIES, World, student_of, true_quality, world_of
from tests.benchmarks.worlds.tasks import LEADS, question, right_parts
from tests.benchmarks.worlds.world import HABITS, TOPICS, Shown, logit, topic_of

CHOSEN_ON = 100
"""Questions that the parts are chosen on; the quality of what was chosen is computed on all that are held out."""

FIRST = 1_000_000
"""Number of the first question that is in no trainset."""

MOST_DEMOS = 4
"""Demos of a predictor by default."""


def best_gain(world: World) -> float:
    """Return the gain of the best program in log-odds."""
    student = student_of(world)
    before = logit(true_quality(world, student))
    for stage, predictor in enumerate(student.predictors()):
        advice, demos = best_prompt(world, stage)
        field = [*LEADS[world.stages], "answer"][stage]
        replies = ["a good lead" if field != "answer" else " ".join(right_parts(world, d.question)) for d in demos]
        predictor.demos = [{"question": d.question, field: reply} for d, reply in zip(demos, replies, strict=True)]
        signature: Any = predictor.signature
        predictor.signature = signature.with_instructions(f"Answer. {' '.join(advice)}")
    return logit(true_quality(world, student)) - before


def best_prompt(world: World, stage: int) -> tuple[list[str], list[Shown]]:
    """Return the advice and the demos of the best prompt for a stage, added one by one."""
    questions = [question(world, FIRST + n) for n in range(CHOSEN_ON)]
    about = [*TOPICS[: world.topics], "everything"]
    advice = [f"About {topic}: {habit}." for topic in about for habit in HABITS if world.worth(stage, topic, habit) > 0]
    demos = _demos(world)
    held: tuple[list[str], list[Shown]] = [], []

    def quality(rules: Sequence[str], shown: Sequence[Shown]) -> float:
        return sum(world.quality(stage, " ".join(rules), shown, asked) for asked in questions) / len(questions)

    reached = quality(*held)
    while True:
        rules, shown = held
        options = [([*rules, rule], shown) for rule in advice if rule not in rules and len(rules) < MOST_RULES]
        if len(shown) < MOST_DEMOS:
            options += [(rules, [*shown, demo]) for demo in demos if demo not in shown]
        best = max(options, key=lambda option: quality(*option), default=held)
        if quality(*best) <= reached:
            return held
        held, reached = best, quality(*best)


def _demos(world: World) -> list[Shown]:
    """Return good demos of the trainset: as many of each topic as a prompt holds, since all of a topic are alike."""
    of_topic: dict[str, list[Shown]] = {}
    for n in range(EXAMPLES.get(world.name, 200)):
        asked = question(world, n)
        if world.chance("misleads", asked) >= world.misleading:
            of_topic.setdefault(topic_of(asked), []).append(Shown(asked, 1.0))
    return [demo for demos in of_topic.values() for demo in demos[:MOST_DEMOS]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--seeds", type=int, default=3, help="worlds of each family")
    chosen = parser.parse_args()
    means: list[float] = []
    for family in chosen.families:
        means.append(statistics.mean(best_gain(world_of(family, seed)) for seed in range(chosen.seeds)))
        print(f"{family:<16}{means[-1]:>6.2f}", flush=True)
    print(f"{'all':<16}{statistics.mean(means):>6.2f}")


if __name__ == "__main__":
    main()
