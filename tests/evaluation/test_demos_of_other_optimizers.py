"""Students that DSPy's other optimizers compiled are optimized, saved and served with the demos that they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import programs
from simba_actors.programs import ConfigurationSpace
from tests.support.quiz import questions
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


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
async def test_a_run_goes_through(policy: Any, tmp_path: Path) -> None:
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
