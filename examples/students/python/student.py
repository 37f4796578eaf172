"""A student in Python: any dspy.Module, served to optimizers in other processes.

OPENAI_API_KEY=… simba-actors student student:make --port 7000
"""

from __future__ import annotations

import os

import dspy

from simba_actors import Float
from simba_actors.bridge.service import StudentService


class HintAndAnswer(dspy.Module):
    """Finds a hint, then answers the question with it."""

    def __init__(self) -> None:
        super().__init__()
        self.hint = dspy.Predict("question -> hint")
        self.answer = dspy.Predict("question, hint -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        hint = await self.hint.acall(question=question)
        return await self.answer.acall(question=question, hint=hint.hint)


def make() -> StudentService:
    """Return what is served: the program, its LM, and a setting that an optimizer may choose."""
    lm = dspy.LM(os.environ.get("STUDENT_MODEL", "openai/gpt-5-mini"), api_base=os.environ.get("OPENAI_BASE_URL"))
    return StudentService(HintAndAnswer(), lm=lm, settings={"answer.temperature": Float(0.0, 1.0)})
