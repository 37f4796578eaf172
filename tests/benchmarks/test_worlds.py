"""Properties of the planted worlds that measurements rely on."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from tests.benchmarks.worlds import FAMILIES, student_of, train_examples, true_quality, world_lm, world_of
from tests.benchmarks.worlds.tasks import right_parts, share_right
from tests.benchmarks.worlds.world import HABITS, TOPICS, World


def advised(world: World, *, helpful: bool) -> dspy.Module:
    """Return the student with one habit for each topic, either always the best or always the worst."""
    student = student_of(world)
    predictors: list[Any] = student.predictors()
    for stage, predictor in enumerate(predictors):
        for topic in TOPICS[: world.topics]:
            habits = sorted(HABITS, key=lambda habit: world.worth(stage, topic, habit))
            text = f"{predictor.signature.instructions}\n\nAbout {topic}: {habits[-1 if helpful else 0]}."
            predictor.signature = predictor.signature.with_instructions(text)
    return student


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "no_headroom"])
def test_helpful_advice_raises_the_true_quality_and_harmful_advice_lowers_it(family: str) -> None:
    world = world_of(family, 0)
    bare = true_quality(world, student_of(world))
    assert true_quality(world, advised(world, helpful=False)) < bare < true_quality(world, advised(world, helpful=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_lm_scores_is_the_true_quality_but_for_chance(family: str) -> None:
    world = world_of(family, 1)
    student = student_of(world)
    with dspy.context(lm=world_lm(world)):
        scores = [share_right(row, student(**row.inputs())) for row in train_examples(world, 150)]
    assert sum(scores) / len(scores) == pytest.approx(true_quality(world, student), abs=0.12)


def test_a_prompt_that_holds_too_much_gets_worse() -> None:
    world = world_of("crowded", 0)
    student: Any = student_of(world)
    rows = [row for row in train_examples(world, 60) if world.chance("misleads", row.question) >= world.misleading]
    student.demos = [
        dspy.Example(question=row.question, answer=" ".join(right_parts(world, row.question))) for row in rows[:4]
    ]
    some = true_quality(world, student)
    student.demos = student.demos * 6
    assert true_quality(world, student) < some
