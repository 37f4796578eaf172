"""Descriptions of fields, and other texts of the student, that are written anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy

from simba_actors import ConfigurationSpace, RewriteTexts, Text
from simba_actors.strategies import Declined
from tests.strategies.test_learn_from_failures import context
from tests.support.quiz import right_answer
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import Ask, ScriptedLM

DESCRIBED = "self.question.desc"


class Writer:
    """Writes these texts, and remembers what it was shown."""

    def __init__(self, **texts: str) -> None:
        self.texts = {name.replace("_", "."): text for name, text in texts.items()}
        self.shown: list[dict[str, Any]] = []

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        assert set(inputs) == set(signature.input_fields)
        self.shown.append(inputs)
        return dspy.Prediction(new_texts=self.texts)


def asked(writer: Any, *names: str) -> Any:
    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(student, settings={name: Text() for name in names})
    own = space.extract(student)
    return context(writer, {1: (0.0, 1.0)}, source=own, student=own)


async def test_the_writer_sees_the_texts_as_they_are() -> None:
    writer = Writer(self_question_desc="A ball.")
    await RewriteTexts((DESCRIBED,)).apply(asked(writer, DESCRIBED))
    assert json.loads(writer.shown[0]["texts"]) == {DESCRIBED: "${question}"}


async def test_only_texts_that_were_opened_are_changed() -> None:
    made = await RewriteTexts((DESCRIBED,)).apply(
        asked(Writer(self_question_desc=" A ball. ", self_answer_desc="A colour."), DESCRIBED)
    )
    assert not isinstance(made, Declined)
    assert made.settings == {DESCRIBED: "A ball."}


async def test_texts_that_stay_as_they_are_make_no_candidate() -> None:
    made = await RewriteTexts((DESCRIBED,)).apply(asked(Writer(), DESCRIBED))
    assert made == Declined("no text is new")


def test_a_student_without_open_texts_has_nothing_to_rewrite() -> None:
    declined = RewriteTexts((DESCRIBED,)).applicable(asked(Writer()))
    assert isinstance(declined, Declined)


class Greeter(dspy.Module):
    """Puts a text of its own before each question."""

    def __init__(self) -> None:
        super().__init__()
        self.manners = {"greeting": "Hello!"}
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=f"{self.manners['greeting']} {question}")

    async def aforward(self, question: str) -> Any:
        return await self.answer.acall(question=f"{self.manners['greeting']} {question}")


def knows_if_told(ask: Ask) -> dict[str, Any]:
    """Answer right if the prompt says what balls are like. As a writer, say it now and then, and nonsense else."""
    if "new_texts" in ask.fields:
        text = "Balls are coloured." if ask.chance("insight") < 0.3 else f"Nonsense {ask.chance('text'):.4f}."
        return {"discussion": "?", "new_texts": dict.fromkeys(json.loads(ask.input("texts")), text)}
    asked = ask.input("question") or ask.last
    known = ask.chance("knows") < (0.9 if "Balls are coloured." in ask.prompt else 0.2)
    return {"answer": right_answer(asked[asked.index("What") :]) if known else "grey"}


async def best_texts(store: Path, student: dspy.Module, name: str) -> Any:
    space = ConfigurationSpace.from_module(student, settings={name: Text()})
    lm = ScriptedLM(knows_if_told)
    config = small_config(
        store,
        student=student,
        space=space,
        lm=lm,
        prompt_model=lm,
        policy="adaptive",
        strategies=[RewriteTexts(space.texts)],
        max_steps=4,
    )
    return space.extract((await finish(config)).program).values[name]


async def test_a_description_that_helps_is_found(tmp_path: Path) -> None:
    found = await best_texts(tmp_path / "simba.db", dspy.Predict("question -> answer"), DESCRIBED)
    assert found == "Balls are coloured."


async def test_a_text_of_the_student_that_helps_is_found(tmp_path: Path) -> None:
    found = await best_texts(tmp_path / "simba.db", Greeter(), "manners.greeting")
    assert found == "Balls are coloured."
