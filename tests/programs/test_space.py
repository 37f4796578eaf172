"""Configurations out of a student and into a copy of it."""

from __future__ import annotations

import threading
from typing import Any, cast

import dspy
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings

from simba_actors.errors import ConfigError, MisfitError, NoPredictorsError, NotJSONError, StudentError
from simba_actors.programs import Choice, Configuration, ConfigurationSpace, Float, Integer, Text
from tests.programs.students import Node, Recipe, recipes, state
from tests.support.quiz import quiz_script
from tests.support.scripted_lm import ScriptedLM


def two_steps() -> Any:
    return Node([dspy.Predict("question -> hint"), dspy.Predict("question, hint -> answer")])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recipes)
def test_what_is_extracted_and_applied_is_extracted_again(recipe: Recipe) -> None:
    student = recipe()
    space, before = ConfigurationSpace.from_module(student), state(student)
    configuration = space.extract(student)
    program = space.apply(configuration, student)
    assert space.extract(program) == configuration
    assert ConfigurationSpace.from_module(program) == space
    assert [entry[2:] for entry in state(program)] == [entry[2:] for entry in before]
    assert state(student) == before


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recipes)
def test_a_program_keeps_what_it_is_given_and_the_student_does_not_notice(recipe: Recipe) -> None:
    student = recipe()
    space, before = ConfigurationSpace.from_module(student), state(student)
    configuration = space.extract(student)
    for name in space.predictors:
        configuration = configuration.with_instructions(name, f"Instructions of {name}.").with_demos(name, [])
    assert space.extract(space.apply(configuration, student)) == configuration
    assert state(student) == before


def test_a_predictor_that_is_held_twice_is_held_twice_by_the_copy_also_beside_what_cannot_be_copied() -> None:
    shared = dspy.Predict("question -> answer")
    student: Any = Node([Node([shared]), Node([shared])])
    vars(student)["lock"] = threading.Lock()
    space = ConfigurationSpace.from_module(student)
    program: Any = space.apply(space.extract(student), student)
    assert program.part_0.part_0 is program.part_1.part_0
    assert program.part_0.part_0 is not shared
    assert program.lock is student.lock


def test_a_copy_uses_the_lms_of_the_student() -> None:
    student = dspy.Predict("question -> answer")
    student.lm = ScriptedLM(quiz_script)
    space = ConfigurationSpace.from_module(student)
    program: Any = space.apply(space.extract(student), student)
    assert program.lm is student.lm


def test_changing_the_demos_of_a_program_does_not_change_its_configuration() -> None:
    student = two_steps()
    space = ConfigurationSpace.from_module(student)
    configuration = space.extract(student).with_demos("part_0", [{"question": "?", "extra": ["a"]}])
    program: Any = space.apply(configuration, student)
    program.part_0.demos[0].extra.append("b")
    assert configuration.demos("part_0") == ({"question": "?", "extra": ["a"]},)


def test_a_student_without_predictors_has_no_space() -> None:
    with pytest.raises(NoPredictorsError, match="Node has no predictors"):
        ConfigurationSpace.from_module(Node([]))


def test_a_student_that_holds_itself_is_refused() -> None:
    student: Any = two_steps()
    student.itself = student
    with pytest.raises(StudentError, match="Node holds itself in an attribute"):
        ConfigurationSpace.from_module(student)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part_9.instructions": "?"}, r"no variable 'part_9.instructions'; it has \['part_0.demos'"),
        ({"part_0.instructions": 3}, "instructions of predictor 'part_0': must be a string, not 3"),
        ({"part_1.demos": "none"}, "demos of predictor 'part_1': must be a list of demos, not 'none'"),
        ({"part_1.demos": ["none"]}, "demos of predictor 'part_1': demo 0 must be an object of fields, not 'none'"),
    ],
)
def test_a_misfit_names_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    student = two_steps()
    space = ConfigurationSpace.from_module(student)
    with pytest.raises(MisfitError, match=message):
        space.apply(Configuration({**space.extract(student).values, **change}), student)


def test_a_configuration_of_another_student_names_the_predictor_that_it_lacks() -> None:
    other = Node([dspy.Predict("question -> hint")])
    with pytest.raises(MisfitError, match="no instructions for predictor 'part_1'"):
        ConfigurationSpace.from_module(two_steps()).validate(ConfigurationSpace.from_module(other).extract(other))


class LookedUp(pydantic.BaseModel):
    kind: str

    @pydantic.field_validator("kind")
    @classmethod
    def look_up(cls, kind: str) -> str:
        return {"a": "A"}[kind]


class LooksUp(dspy.Signature):
    """Look it up."""

    question: str = dspy.InputField()
    found: LookedUp = dspy.OutputField()


def test_a_value_that_the_users_own_type_fails_of_stays_as_it_is() -> None:
    student = dspy.Predict(LooksUp)
    space = ConfigurationSpace.from_module(student)
    configuration = space.extract(student).with_demos("self", [{"question": "?", "found": {"kind": "z"}}])
    program: Any = space.apply(configuration, student)
    assert program.demos[0].found == {"kind": "z"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"red"}, r"part_0.demos\[0\].question is a set"),
        (float("nan"), r"part_0.demos\[0\].question is nan"),
        ("\ud800", r"part_0.demos\[0\].question holds half of a surrogate pair"),
        ({"deep": [2**70]}, r"part_0.demos\[0\].question.deep\[0\] is 1180591620717411303424"),
        ({1: 2}, r"part_0.demos\[0\].question has the key 1, which is not a string"),
    ],
)
def test_a_value_that_is_no_json_is_named(value: Any, message: str) -> None:
    student = two_steps()
    space = ConfigurationSpace.from_module(student)
    configuration = space.extract(student).with_demos("part_0", [{"question": value}])
    with pytest.raises(NotJSONError, match=message):
        space.apply(configuration, student)
    with pytest.raises(NotJSONError, match=message):
        _ = configuration.digest


def test_lm_settings_are_variables_where_they_are_named() -> None:
    small, large = ScriptedLM(quiz_script), ScriptedLM(quiz_script)
    student = two_steps()
    student.part_0.lm = small
    space = ConfigurationSpace.from_module(
        student,
        settings={
            "part_0.temperature": Float(0.0, 1.5),
            "part_0.max_tokens": Integer(1, 500),
            "part_0.lm": Choice(("small", "large")),
        },
        lms={"small": small, "large": large},
    )
    configuration = space.extract(student)
    assert (configuration.values["part_0.temperature"], configuration.values["part_0.lm"]) == (None, "small")
    changed = configuration.with_setting("part_0.temperature", 0.5).with_setting("part_0.lm", "large")
    program: Any = space.apply(changed, student)
    assert (program.part_0.config, program.part_0.lm is large) == ({"temperature": 0.5}, True)
    assert (student.part_0.config, student.part_0.lm is small) == ({}, True)
    assert space.extract(program) == changed


def test_an_lm_is_called_with_the_setting() -> None:
    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(student, settings={"self.temperature": Float(0.0, 1.0)})
    program: Any = space.apply(space.extract(student).with_setting("self.temperature", 0.25), student)
    lm = ScriptedLM(quiz_script)
    with dspy.context(lm=lm):
        program(question="What is the colour of ball 1?")
    assert lm.asks[0].temperature == 0.25


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (Float(0.0, 1.0), 1.5, "temperature of predictor 'self': must be a number from 0 to 1, not 1.5"),
        (Float(0.0, 1.0), True, "must be a number from 0 to 1, not True"),
        (Float(0.0, 1.0), "hot", "must be a number from 0 to 1, not 'hot'"),
        (Integer(0, 3), 1.5, "must be a whole number from 0 to 3, not 1.5"),
        (Choice((0, 1)), True, r"must be one of \[0, 1\], not True"),
    ],
)
def test_a_setting_out_of_its_range_is_named(setting: Any, value: Any, message: str) -> None:
    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(student, settings={"self.temperature": setting})
    with pytest.raises(MisfitError, match=message):
        space.validate(space.extract(student).with_setting("self.temperature", value))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"other.temperature": Float(0, 1)},
            r"'other.temperature' names no predictor of the student; it has \['self'\]",
        ),
        ({"self.demos": Choice((1,))}, "'self.demos': demos are always optimized"),
        ({"self.lm": Choice(("small",))}, r"'self.lm' must be a Choice of the names in lms, \[\]"),
        ({"self.n": Choice((1,), when={"self.k": (1,)})}, r"'self.n' depends on 'self.k', which must be another"),
        ({"self.n": Choice((1,), when={"self.n": (1,)})}, r"'self.n' depends on 'self.n', which must be another"),
        (
            {"self.n": Choice((1,), when={"self.k": (9,)}), "self.k": Integer(0, 5)},
            r"when\['self.k'\] must be a whole number from 0 to 5, not 9",
        ),
        (
            {"self.n": Choice((1,), when={"self.k": ()}), "self.k": Integer(0, 5)},
            r"when\['self.k'\] must be a tuple of values, not \(\)",
        ),
        (
            {"self.n": Choice((1,), when=cast("Any", {"self.k": 1})), "self.k": Integer(0, 5)},
            r"when\['self.k'\] must be a tuple of values, not 1",
        ),
        (
            {"self.n": Choice((1,), when=cast("Any", "self.k")), "self.k": Integer(0, 5)},
            "when='self.k' must map names of settings to tuples of values",
        ),
        (
            {"self.n": Choice((1,), when={"self.k": (2,)}), "self.k": Choice((2,), when={"self.n": (1,)})},
            "in a circle: self.n on self.k on self.n|in a circle: self.k on self.n on self.k",
        ),
    ],
)
def test_a_setting_of_nothing_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ConfigurationSpace.from_module(dspy.Predict("question -> answer"), settings=settings)


class WithTexts(dspy.Module):
    farewell = "Bye!"

    def __init__(self) -> None:
        super().__init__()
        self.greeting = "Hello!"
        self.tools = {"search": dspy.Tool(lambda query: query, name="search", desc="Finds pages.")}
        self.answer = dspy.Predict("question -> answer")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("answer.question.desc", "${question}"),
        ("greeting", "Hello!"),
        ("farewell", "Bye!"),
        ("tools.search.desc", "Finds pages."),
    ],
)
def test_texts_are_variables_where_they_are_named(name: str, own: str) -> None:
    student = WithTexts()
    space = ConfigurationSpace.from_module(student, settings={name: Text()})
    configuration = space.extract(student)
    assert configuration.values[name] == own
    program = space.apply(configuration.with_setting(name, "Another."), student)
    assert space.extract(program).values[name] == "Another."
    assert space.extract(student) == configuration


def test_half_of_a_surrogate_pair_in_a_text_is_escaped() -> None:
    student = WithTexts()
    space = ConfigurationSpace.from_module(student, settings={"greeting": Text()})
    program: Any = space.apply(space.extract(student).with_setting("greeting", "Hi \ud83d!"), student)
    assert program.greeting == "Hi \\ud83d!"


def test_a_description_is_in_the_prompt() -> None:
    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(student, settings={"self.question.desc": Text()})
    program: Any = space.apply(space.extract(student).with_setting("self.question.desc", "About a ball."), student)
    lm = ScriptedLM(quiz_script)
    with dspy.context(lm=lm):
        program(question="What is the colour of ball 1?")
    assert "1. `question` (str): About a ball." in lm.asks[0].system


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "self.topic.desc",
            r"has no text 'self.topic.desc'; its texts are \['self.question.desc', 'self.answer.desc'\]",
        ),
        ("self.temperature", "predictor 'self' has no text 'self.temperature'; its texts are"),
        ("motto", "Predict has no 'motto'; it has"),
        ("demos", "the student has .* there, which is not a string"),
        ("stage.motto", "'motto' can't be looked up in a str: names lead through modules, dicts and tools only"),
    ],
)
def test_a_text_that_the_student_lacks_is_named(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ConfigurationSpace.from_module(dspy.Predict("question -> answer"), settings={name: Text()})


def test_a_choice_whose_condition_is_not_met_goes_back_to_the_students_as_do_those_that_depend_on_it() -> None:
    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(
        student,
        settings={
            "self.top_k": Choice((5,), when={"self.n": (2,)}),
            "self.n": Choice((2,), when={"self.seed": (7,)}),
            "self.seed": Choice((7, 8)),
        },
    )
    own = space.extract(student)
    chosen = own.with_setting("self.top_k", 5).with_setting("self.n", 2)
    met = chosen.with_setting("self.seed", 7)
    assert space.without_unmet(met, own) == met
    assert space.without_unmet(chosen.with_setting("self.seed", 8), own) == own.with_setting("self.seed", 8)


@pytest.mark.parametrize("make", [lambda: Float(1, 0), lambda: Integer(2, 1), lambda: Choice(())])
def test_a_range_without_values_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()
