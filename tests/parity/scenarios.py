"""Students, metrics and settings to run side by side under `dspy.SIMBA` and `simba_actors.SIMBA`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dspy

from tests.support.quiz import exact, questions, quiz_script, right_answer
from tests.support.scripted_lm import Ask, Script


class HintThenAnswer(dspy.Module):
    """A student with two predictors, of which the second uses the output of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.hinter = dspy.Predict("question -> hint")
        self.answerer = dspy.ChainOfThought("question, hint -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        hint = self.hinter(question=question).hint
        return self.answerer(question=question, hint=hint)

    async def aforward(self, question: str) -> dspy.Prediction:
        hint = (await self.hinter.acall(question=question)).hint
        return await self.answerer.acall(question=question, hint=hint)


class SyncOnly(dspy.Module):
    """A student without aforward, which has to run in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.predict(question=question)


def bare() -> dspy.Module:
    return dspy.Predict("question -> answer")


def with_many_demos() -> dspy.Module:
    student = dspy.Predict("question -> answer")
    rows = [f"What is the colour of ball {n}?" for n in range(900, 909)]
    student.demos = [dspy.Example(question=row, answer=right_answer(row)) for row in rows]
    return student


def graded(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> dspy.Prediction:
    """A score between 0 and 1, with feedback for the rule writer."""
    near = len(set(example.answer) & set(prediction.answer)) / len(set(example.answer) | set(prediction.answer))
    return dspy.Prediction(score=near, feedback=f"{near:.2f} of the letters", expected=example.answer)


def garbled(ask: Ask) -> dict[str, Any] | str:
    """Reply with text of which a third can't be parsed."""
    return "I would rather not say." if ask.chance("refuses") < 0.33 else quiz_script(ask)


def lengthy_questions(count: int) -> list[dspy.Example]:
    return [
        dspy.Example(question=f"{row.question} {'Look closely. ' * (n % 5)}", answer=row.answer).with_inputs("question")
        for n, row in enumerate(questions(count))
    ]


@dataclass(frozen=True)
class Scenario:
    student: Callable[[], dspy.Module] = bare
    metric: Callable[..., Any] = exact
    script: Script = quiz_script
    trainset: Callable[[int], list[dspy.Example]] = questions
    rows: int = 20
    teacher: bool = False
    settings: dict[str, Any] = field(default_factory=dict[str, Any])


SMALL: dict[str, Any] = {"bsize": 6, "num_candidates": 3, "max_steps": 4, "max_demos": 3}

SCENARIOS: dict[str, Scenario] = {
    "bare_predict": Scenario(settings=SMALL),
    "two_predictors": Scenario(student=HintThenAnswer, settings=SMALL),
    "sync_only_student": Scenario(student=SyncOnly, settings=SMALL),
    "no_demos": Scenario(settings={**SMALL, "max_demos": 0}),
    "many_demos": Scenario(student=with_many_demos, settings=SMALL),
    "graded_metric_with_feedback": Scenario(metric=graded, settings=SMALL),
    "replies_that_cannot_be_parsed": Scenario(script=garbled, student=HintThenAnswer, settings=SMALL),
    "long_inputs": Scenario(trainset=lengthy_questions, settings={**SMALL, "demo_input_field_maxlen": 40}),
    "teacher": Scenario(teacher=True, settings=SMALL),
    "rows_not_a_multiple_of_bsize": Scenario(rows=17, settings={**SMALL, "bsize": 7, "max_steps": 5}),
    "other_temperatures": Scenario(
        settings={**SMALL, "temperature_for_sampling": 0.05, "temperature_for_candidates": 2.0}
    ),
    "one_candidate": Scenario(settings={**SMALL, "num_candidates": 1}),
    "defaults": Scenario(rows=40),
}
