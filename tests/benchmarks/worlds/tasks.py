"""The task of a world in DSPy's terms: student, examples, metric, and the true quality of a program."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from tests.benchmarks.worlds.world import HABITS, TOPICS, Shown, World, topic_of

HELD_OUT = 300
"""Number of questions that the true quality averages over. None of them is ever in a trainset."""

GOOD_LEAD, POOR_LEAD = "a good lead", "a poor lead"
LEAD_GAIN = 1.0


LEADS = {1: (), 2: ("hint",), 4: ("plan", "notes", "draft")}
"""The output of each stage before the answer, by the number of stages."""


class FourSteps(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.planner = dspy.Predict("question -> plan")
        self.reader = dspy.Predict("question, plan -> notes")
        self.writer = dspy.Predict("question, notes -> draft")
        self.answerer = dspy.Predict("question, draft -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        plan = self.planner(question=question).plan
        notes = self.reader(question=question, plan=plan).notes
        draft = self.writer(question=question, notes=notes).draft
        return self.answerer(question=question, draft=draft)

    async def aforward(self, question: str) -> dspy.Prediction:
        plan = (await self.planner.acall(question=question)).plan
        notes = (await self.reader.acall(question=question, plan=plan)).notes
        draft = (await self.writer.acall(question=question, notes=notes)).draft
        return await self.answerer.acall(question=question, draft=draft)


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
    makers = {1: lambda: dspy.Predict("question -> answer"), 2: HintThenAnswer, 4: FourSteps}
    student: dspy.Module = makers[world.stages]()
    predictors: list[Any] = student.predictors()
    for stage, predictor in enumerate(predictors):
        if own := world.own_instructions(stage):
            predictor.signature = predictor.signature.with_instructions(f"Answer the question. {own}")
    return student


def question(world: World, number: int) -> str:
    topic = TOPICS[int(world.chance("topic", number) ** world.tail * world.topics)]
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
    """Return the metric: the share of the answer's parts that are right."""
    expected, given = example.answer.split(), str(prediction.answer).split()
    return sum(a == b for a, b in zip(expected, given, strict=False)) / len(expected)


def metric_of(world: World) -> Callable[..., Any]:
    """Return the metric, with a text that names the cause of a failure in some worlds."""
    if not world.names_cause:
        return share_right

    def with_feedback(example: Any, prediction: Any, trace: Any = None, *_: Any) -> Any:
        score = share_right(example, prediction)
        text = "" if score == 1 else cause_of_failure(world, example.question)
        return dspy.Prediction(score=score, feedback=text)

    return with_feedback


def cause_of_failure(world: World, asked: str) -> str:
    """Return, in some cases, what a failed reply should have done: one of the habits that help on its topic."""
    if world.chance("names cause", asked) >= world.names_cause:
        return "Wrong."
    topic = topic_of(asked)
    helpful = [habit for habit in HABITS if world.worth(0, topic, habit) > 0]
    habit = helpful[int(world.chance("cause", asked) * len(helpful))] if helpful else HABITS[0]
    return f"Wrong. It did not {habit}."


def shown(world: World, asked: str, stage: int, reply: str) -> Shown:
    """Return a demo in the world's terms."""
    if stage < world.stages - 1:
        return Shown(asked, float(GOOD_LEAD in reply))
    expected = right_parts(world, asked)
    given = re.findall(r"\b\d{3}\b", reply)
    return Shown(asked, sum(a == b for a, b in zip(expected, given, strict=False)) / len(expected))


def true_quality(world: World, program: dspy.Module) -> float:
    """Return the expected score of `program` on held-out questions."""
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
    good, *others = chances
    for chance in others:
        good = good * led(chance, LEAD_GAIN) + (1 - good) * led(chance, -LEAD_GAIN)
    return good


def led(chance: float, lead: float) -> float:
    """Return the chance of a right answer, given the hint's lead in log-odds."""
    odds = chance / (1 - chance) * math.exp(lead)
    return odds / (1 + odds)


def _of_demo(world: World, stage: int, demo: Any) -> Shown:
    field = [*LEADS[world.stages], "answer"][stage]
    reply = demo.get(field, "")
    return shown(world, demo["question"], stage, str(reply))
