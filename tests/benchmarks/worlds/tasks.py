"""The task of a world as DSPy has it: student, examples, metric, and the true quality of a program."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import dspy

from tests.benchmarks.worlds.world import TOPICS, Shown, World

HELD_OUT = 300
"""Questions that the true quality is an average over; none of them is ever in a trainset."""

GOOD_LEAD, POOR_LEAD = "a good lead", "a poor lead"
LEAD_GAIN = 1.0


class HintThenAnswer(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hinter = dspy.Predict("question -> hint")
        self.answerer = dspy.Predict("question, hint -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        hint = self.hinter(question=question).hint
        return self.answerer(question=question, hint=hint)

    async def aforward(self, question: str) -> dspy.Prediction:
        hint = (await self.hinter.acall(question=question)).hint
        return await self.answerer.acall(question=question, hint=hint)


def student_of(world: World) -> dspy.Module:
    return HintThenAnswer() if world.stages == 2 else dspy.Predict("question -> answer")


def question(world: World, number: int) -> str:
    topic = TOPICS[int(world.chance("topic", number) * world.topics)]
    return f"This is question {number} on {topic}."


def right_parts(world: World, asked: str) -> list[str]:
    if world.labels:
        return [f"{100 + world.label_of(asked)}"]
    return [f"{int(world.chance('answer', asked, part) * 900) + 100}" for part in range(world.parts)]


def train_examples(world: World, count: int, *, start: int = 0) -> list[dspy.Example]:
    rows = [question(world, number) for number in range(start, start + count)]
    return [
        dspy.Example(question=row, answer=" ".join(right_parts(world, row))).with_inputs("question") for row in rows
    ]


def share_right(example: Any, prediction: Any, trace: Any = None, *_: Any) -> float:
    """The metric: the share of the answer's parts that are right."""
    expected, given = example.answer.split(), str(prediction.answer).split()
    return sum(a == b for a, b in zip(expected, given, strict=False)) / len(expected)


def shown(world: World, asked: str, stage: int, reply: str) -> Shown:
    """A demo as the world sees it."""
    if stage == 0 and world.stages == 2:
        return Shown(asked, float(GOOD_LEAD in reply))
    expected = right_parts(world, asked)
    given = re.findall(r"\b\d{3}\b", reply)
    return Shown(asked, sum(a == b for a, b in zip(expected, given, strict=False)) / len(expected))


def true_quality(world: World, program: dspy.Module) -> float:
    """The expected score of `program` on held-out questions."""
    predictors: list[Any] = program.predictors()
    prompts = [(predictor.signature.instructions, predictor.demos) for predictor in predictors]
    total = 0.0
    for number in range(1_000_000, 1_000_000 + HELD_OUT):
        total += _expected(world, prompts, question(world, number))
    return total / HELD_OUT


def _expected(world: World, prompts: Sequence[tuple[str, Any]], asked: str) -> float:
    chances = [
        world.quality(stage, instructions, [_of_demo(world, stage, demo) for demo in demos], asked)
        for stage, (instructions, demos) in enumerate(prompts)
    ]
    if world.stages == 1:
        return chances[0]
    good, answer = chances
    return good * led(answer, LEAD_GAIN) + (1 - good) * led(answer, -LEAD_GAIN)


def led(chance: float, lead: float) -> float:
    """The chance of a right answer given the hint's lead, in log-odds."""
    odds = chance / (1 - chance) * math.exp(lead)
    return odds / (1 + odds)


def _of_demo(world: World, stage: int, demo: Any) -> Shown:
    reply = demo.get("hint", "") if stage == 0 and world.stages == 2 else demo.get("answer", "")
    return shown(world, demo["question"], stage, str(reply))
