"""A small task: questions with one right answer, and an LM that knows it more often when prompted well."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import dspy

from tests.support.scripted_lm import Ask

ANSWERS = ("red", "green", "blue", "amber")


def right_answer(question: str) -> str:
    return ANSWERS[hashlib.sha256(question.encode()).digest()[0] % len(ANSWERS)]


def questions(count: int, *, start: int = 0) -> list[dspy.Example]:
    rows = [f"What is the colour of ball {n}?" for n in range(start, start + count)]
    return [dspy.Example(question=row, answer=right_answer(row)).with_inputs("question") for row in rows]


def exact(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> bool:
    return example.answer == prediction.answer


def quiz_script(ask: Ask) -> dict[str, Any] | str:
    """Reply as `legible_script` does, but now and then with something that can't be parsed."""
    if "module_advice" not in ask.fields and ask.chance("garbled") < 0.03:
        return "I would rather not say."
    return legible_script(ask)


def legible_script(ask: Ask) -> dict[str, Any]:
    """Answer right more often the more demos and rules the prompt has."""
    if "module_advice" in ask.fields:
        return advice(ask)
    knowledge = 0.25 + 0.06 * sum(role == "assistant" for role, _ in ask.messages) + 0.08 * ask.system.count("Rule:")
    known = ask.chance("knows") < min(knowledge, 0.9)
    asked = ask.input("question") or ask.input("hint") or ask.last
    return {name: _value(name, ask, asked, known) for name in ask.fields}


def _value(field: str, ask: Ask, asked: str, known: bool) -> str:
    if field in ("answer", "hint"):
        return right_answer(asked) if known else ANSWERS[int(ask.chance(field) * len(ANSWERS))]
    return f"{field} {ask.chance(field):.3f}"


def advice(ask: Ask) -> dict[str, Any]:
    """Reply as a rule writer: a rule for each module that the prompt names."""
    names = json.loads(ask.input("module_names") or "[]") or re.findall(r"Module (\S+)", ask.prompt)
    return {
        "discussion": f"The worse run was worse by {ask.chance('why'):.3f}.",
        "module_advice": {
            name: f"Rule: prefer {ANSWERS[int(ask.chance(name) * 4)]} ({ask.chance(name):.4f})." for name in names
        },
    }
