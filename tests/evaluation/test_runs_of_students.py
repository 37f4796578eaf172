"""Whole runs of students that are easily got wrong: what they hold, what they override, what they were given before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import programs
from simba_actors.programs import ConfigurationSpace
from simba_actors.store import Reader
from simba_actors.strategies import AppendADemo
from tests.support.quiz import exact, questions
from tests.support.runs import finish, small_config


class TwoStages(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = dspy.Predict("question -> search_query")
        self.answer = dspy.ChainOfThought("question, search_query -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, search_query=self.query(question=question).search_query)


def compiled() -> Any:
    """Its predictors have demos without their own fields."""
    rows = [dspy.Example(topic="balls", **row.toDict()).with_inputs("question") for row in questions(4)]
    return dspy.LabeledFewShot(k=2).compile(TwoStages(), trainset=rows)


class Client:
    """Can't be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def search(self, query: str) -> str:
        return query


class Agents(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.agents: dict[str, Any] = {"client": Client(), "answer": dspy.Predict("question -> answer")}

    def forward(self, question: str) -> Any:
        return self.agents["answer"](question=question)


class Shout(dspy.Predict):
    def forward(self, **kwargs: Any) -> Any:
        prediction = super().forward(**kwargs)
        prediction.answer = prediction.answer.upper()
        return prediction


def shouted(example: Any, prediction: Any, trace: Any = None) -> bool:
    return prediction.answer == example.answer.upper()


def always(args: Any, prediction: Any) -> float:
    return 1.0


STUDENTS: dict[str, tuple[Callable[[], Any], Any]] = {
    "modules in a dict": (Agents, exact),
    "forward overridden": (lambda: Shout("question -> answer"), shouted),
    "BestOfN": (lambda: dspy.BestOfN(dspy.Predict("question -> answer"), 2, always, 1.0), exact),
}


@pytest.mark.parametrize("name", STUDENTS)
async def test_a_student_gains_demos_and_the_users_own_stays_as_it_was(name: str, tmp_path: Path) -> None:
    make, metric = STUDENTS[name]
    student = make()
    result = await finish(
        small_config(tmp_path / "simba.db", student=student, metric=metric, strategies=[AppendADemo()], bsize=8)
    )
    assert [(predictor.lm, predictor.demos) for predictor in student.predictors()] == [(None, [])]
    assert result.score > 0
    async with await Reader.open(tmp_path / "simba.db") as reader:
        stored: list[Any] = [program.configuration for program in await reader.programs(result.run_id)]
    assert any(demos for configuration in stored for key, demos in dict(configuration).items() if "demos" in key)


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
async def test_a_student_with_demos_without_its_fields_is_optimized(policy: Any, tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db", student=compiled(), policy=policy))
    assert result.program.named_predictors()


def test_a_file_that_dspy_wrote_is_read(tmp_path: Path) -> None:
    student = compiled()
    student.save(str(tmp_path / "program.json"))
    space = ConfigurationSpace.from_module(student)
    assert programs.load(tmp_path / "program.json", TwoStages()) == space.extract(student)


def test_a_file_that_is_written_is_one_that_dspy_reads(tmp_path: Path) -> None:
    student, other = compiled(), TwoStages()
    programs.save(ConfigurationSpace.from_module(student).extract(student), student, tmp_path / "program.json")
    other.load(tmp_path / "program.json")
    space = ConfigurationSpace.from_module(student)
    assert space.extract(other) == space.extract(student)
