"""Configurations as files that DSPy reads and writes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors.errors import MisfitError
from simba_actors.programs import ConfigurationSpace, Float, load, save
from tests.programs.students import Place


def student() -> Any:
    return dspy.ChainOfThought("question -> answer")


def better(space: ConfigurationSpace) -> Any:
    (name,) = space.predictors
    configuration = space.extract(student()).with_instructions(name, "Be brief.")
    return configuration.with_demos(name, [{"question": "1+1?", "answer": "2"}])


def test_a_saved_configuration_is_loaded_by_dspy(tmp_path: Path) -> None:
    space = ConfigurationSpace.from_module(student())
    save(better(space), student(), tmp_path / "program.json")
    program = student()
    program.load(tmp_path / "program.json")
    assert space.extract(program) == better(space)


def test_what_dspy_saved_is_loaded(tmp_path: Path) -> None:
    space = ConfigurationSpace.from_module(student())
    program: Any = space.apply(better(space), student())
    program.save(tmp_path / "program.json")
    assert load(tmp_path / "program.json", student()) == better(space)


def test_a_bare_predictor_is_saved_and_loaded_too(tmp_path: Path) -> None:
    bare = dspy.Predict("question -> answer")
    configuration = ConfigurationSpace.from_module(bare).extract(bare).with_instructions("self", "Be brief.")
    save(configuration, bare, tmp_path / "program.json")
    assert load(tmp_path / "program.json", bare) == configuration


def test_lm_settings_are_saved_beside_what_dspy_reads(tmp_path: Path) -> None:
    (name,) = ConfigurationSpace.from_module(student()).predictors
    space = ConfigurationSpace.from_module(student(), settings={f"{name}.temperature": Float(0, 1)})
    configuration = better(space).with_setting(f"{name}.temperature", 0.5)
    save(configuration, student(), tmp_path / "program.json", space)
    student().load(tmp_path / "program.json")
    assert load(tmp_path / "program.json", student(), space) == configuration


class Sorted(dspy.Signature):
    """Sort it."""

    question: str = dspy.InputField()
    tags: set[str] = dspy.OutputField()
    ranks: dict[int, str] = dspy.OutputField()
    price: Decimal = dspy.OutputField()
    places: list[Place] = dspy.OutputField()


SORTED: dict[str, Any] = {
    "question": "?",
    "tags": ["a", "b"],
    "ranks": {"1": "a"},
    "price": "1.5",
    "places": [{"name": "x", "height": 1.0}],
}


def test_a_program_whose_demos_have_types_that_are_no_json_is_saved(tmp_path: Path) -> None:
    space = ConfigurationSpace.from_module(dspy.Predict(Sorted))
    configuration = space.extract(dspy.Predict(Sorted)).with_demos("self", [SORTED])
    program: Any = space.apply(configuration, dspy.Predict(Sorted))
    program.save(tmp_path / "program.json")
    assert load(tmp_path / "program.json", dspy.Predict(Sorted)) == configuration


def test_demos_of_types_that_are_no_json_look_the_same_in_prompts() -> None:
    demo = {
        "question": "?",
        "tags": {"a"},
        "ranks": {1: "a"},
        "price": Decimal("1.5"),
        "places": [Place(name="x", height=1)],
    }
    student: Any = dspy.Predict(Sorted)
    student.demos = [dspy.Example(**demo)]
    space = ConfigurationSpace.from_module(student)
    program: Any = space.apply(space.extract(student), student)
    shown = [dspy.ChatAdapter().format(p.signature, p.demos, {"question": "?"}) for p in (student, program)]
    assert shown[0] == shown[1]


def test_a_file_of_another_student_names_the_predictor_that_it_lacks(tmp_path: Path) -> None:
    other: Any = dspy.Predict("question -> answer")
    other.save(tmp_path / "program.json")
    with pytest.raises(MisfitError, match=r"has no predictor 'predict'; it has \['demos', "):
        load(tmp_path / "program.json", student())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"predict": 1}', '{"predict": {"signature": {}}}'])
def test_a_file_that_dspy_did_not_write_is_recognized(content: str, tmp_path: Path) -> None:
    (tmp_path / "program.json").write_text(content)
    with pytest.raises(MisfitError, match=r"program\.json"):
        load(tmp_path / "program.json", student())
