"""A student that calls tools, such as `dspy.ReAct`: two predictors, one of them in a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from tests.support.quiz import questions, right_answer
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import Ask, ScriptedLM


class QuestionAnswer(dspy.Signature):
    """Answer the question."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def looks_where_shown(ask: Ask) -> dict[str, Any]:
    """Use the tool if a demo does, and rarely otherwise. Answer with what the tool returned."""
    if "module_advice" in ask.fields:
        return {"discussion": "It did not look.", "module_advice": {}}
    if "next_tool_name" not in ask.fields:
        return {"reasoning": "The tool said so.", "answer": ask.input("observation_0")}
    shown = any("\nlookup\n" in text for _, text in ask.messages[:-1])
    if "observation_0" in ask.last or not (shown or ask.chance("looks") < 0.3):
        return {"next_thought": "That is all.", "next_tool_name": "finish", "next_tool_args": {}}
    arguments = {"question": ask.input("question")}
    return {"next_thought": "Let me see.", "next_tool_name": "lookup", "next_tool_args": arguments}


@pytest.mark.parametrize("policy", ["adaptive", "dspy"])
async def test_a_student_learns_to_use_its_tool(policy: str, tmp_path: Path) -> None:
    def lookup(question: str) -> str:
        """The answer to a question."""
        return right_answer(question)

    lm = ScriptedLM(looks_where_shown)
    sizes: dict[str, Any] = {"trainset": questions(12), "bsize": 12, "max_steps": 2}
    student = dspy.ReAct(QuestionAnswer, tools=[lookup], max_iters=3)
    config = small_config(tmp_path / "simba.db", student=student, policy=policy, lm=lm, prompt_model=lm, **sizes)
    winner: Any = (await finish(config)).program
    with dspy.context(lm=lm):
        answers = [winner(question=row.question).answer for row in questions(6, start=100)]
        before = [student(question=row.question).answer for row in questions(6, start=100)]
    expected = [row.answer for row in questions(6, start=100)]
    assert answers == expected
    assert before != expected
