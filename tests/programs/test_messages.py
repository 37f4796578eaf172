"""Prompts are written from the store as DSPy sends them, byte for byte."""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from pydantic import BaseModel

from simba_actors.programs.messages import PromptTemplate
from tests.support.command_line import run_command
from tests.support.quiz import right_answer
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import Ask, ScriptedLM


class Mood(Enum):
    CALM = "calm"
    ANGRY = "angry"


class Place(BaseModel):
    """A place, "quoted" and with an é."""

    name: str
    floor: int | None = None


class Typed(dspy.Signature):
    """Answer the question.

    Mind the hints.
    """

    question: str = dspy.InputField(desc="what to answer")
    hints: list[str] = dspy.InputField()
    weights: dict[str, float] = dspy.InputField()
    team: Literal["red", "green", "blue", "amber"] = dspy.OutputField(desc="the team")
    mood: Mood = dspy.OutputField()
    places: list[Place] = dspy.OutputField()
    certainty: float = dspy.OutputField(ge=0, le=1)
    urgent: bool = dspy.OutputField()


EXAMPLES = [
    dspy.Example(
        question=f"Where is ball {n}?", hints=["it's round", "a\nb"], weights={"é": 0.5}, team=right_answer(str(n))
    ).with_inputs("question", "hints", "weights")
    for n in range(6)
]


def typed_script(ask: Ask) -> dict[str, Any]:
    if "module_advice" in ask.fields:
        return {
            "discussion": "d",
            "module_advice": {"self": f"Rule: {{braces}} and {{{{question}}}} {ask.chance():.3f}."},
        }
    return {
        "reasoning": "Because.",
        "team": ("red", "green", "blue", "amber")[int(ask.chance("team") * 4)],
        "mood": "angry",
        "places": [{"name": "café", "floor": None}, {"name": 'the "hall"', "floor": 2}],
        "certainty": 0.75,
        "urgent": True,
    }


def right_team(example: dspy.Example, prediction: dspy.Prediction) -> bool:
    return example.team == prediction.team


def sent_by(program: Any, adapter: Any, inputs: dict[str, Any]) -> list[dict[str, str]]:
    """Return the messages of the program's call as its LM received them."""
    lm = ScriptedLM(typed_script)
    with dspy.context(lm=lm, adapter=adapter):
        program(**inputs)
    (ask,) = lm.asks
    return [{"role": "system", "content": ask.system}, *({"role": r, "content": c} for r, c in ask.messages)]


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter])
def test_exported_messages_are_what_dspy_sends(tmp_path: Path, adapter: Any) -> None:
    store, path = tmp_path / "simba.db", tmp_path / "prompt.json"
    lm = ScriptedLM(typed_script)
    config = small_config(
        store, student=dspy.ChainOfThought(Typed), trainset=EXAMPLES, metric=right_team, lm=lm, prompt_model=lm
    )
    with dspy.context(adapter=adapter()):
        result = asyncio.run(finish(config))
    assert any(row["predict.demos"] for row in result.pool)
    inputs = {"question": "Where?\n\nNowhere.", "hints": ["x", "y"], "weights": {"é": 1.5}}
    for finalist, candidate in zip(result.finalists, result.candidate_programs, strict=True):
        arguments = ["export", str(finalist.number), str(path), "--messages", "--force", "--store", str(store)]
        exported = run_command(arguments)
        assert exported.exit_code == 0, exported.output
        predictor = json.loads(path.read_text(encoding="utf-8"))["predict"]
        for name in predictor["inputs"]:
            value = inputs[name] if isinstance(inputs[name], str) else json.dumps(inputs[name], ensure_ascii=False)
            last = predictor["messages"][-1]
            last["content"] = last["content"].replace(f"{{{{{name}}}}}", value)
        assert predictor["messages"] == sent_by(candidate["program"], adapter(), inputs)


def test_a_template_survives_json() -> None:
    template = PromptTemplate.of(Typed, dspy.ChatAdapter())
    assert template is not None
    assert PromptTemplate.from_json(json.loads(json.dumps(template.to_json()))) == template


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()])
def test_a_template_takes_other_descriptions(adapter: Any) -> None:
    template = PromptTemplate.of(Typed, adapter)
    changed: Any = Typed
    descriptions = {name: f"The {name},\nas \\1 it is." for name in Typed.fields}
    descriptions["question"] = "${question}"
    for name, description in descriptions.items():
        changed = changed.with_updated_fields(name, desc=description)
    assert template is not None
    described = template.with_descriptions(descriptions)
    assert described == PromptTemplate.of(changed, adapter)
    assert described.with_descriptions(descriptions) == described


def test_an_adapter_of_the_users_has_no_template() -> None:
    class Own(dspy.ChatAdapter):
        pass

    assert PromptTemplate.of(Typed, Own()) is None


def test_a_conversation_has_no_template() -> None:
    predict: Any = dspy.Predict("history: dspy.History, question -> answer")
    assert PromptTemplate.of(predict.signature, dspy.ChatAdapter()) is None
