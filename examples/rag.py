"""python examples/rag.py [--model openai/gpt-4o-mini]

Retrieval-augmented answers with a typed output: a pydantic model of the answer and the passage that it is taken from.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import dspy
from pydantic import BaseModel
from simulated_lm import SimulatedLM, choose_lm

from simba_actors import Budget, Optimizer, OptimizerConfig

MOONS = {"Earth": 1, "Mars": 2, "Jupiter": 97, "Saturn": 274, "Uranus": 28, "Neptune": 16}
DAYS = {"Earth": 365, "Mars": 687, "Jupiter": 4331, "Saturn": 10747, "Uranus": 30589, "Neptune": 59800}
OF_MOONS = {f"How many moons has {name}?": (moons, f"{name} has {moons} moons") for name, moons in MOONS.items()}
OF_YEARS = {f"How long is a year on {name}?": (days, f"a year on {name} is {days} days") for name, days in DAYS.items()}
FACTS = OF_MOONS | OF_YEARS
PASSAGES = [passage for _, passage in FACTS.values()]


class Cited(BaseModel):
    number: int
    passage: int  # Its index in the passages, from 0.


class AnswerFrom(dspy.Signature):
    """Answer the question from one of the passages."""

    passages: list[str] = dspy.InputField()
    question: str = dspy.InputField()
    answer: Cited = dspy.OutputField()


class RAG(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict(AnswerFrom)

    async def aforward(self, question: str) -> Any:
        asked = set(question.rstrip("?").split())
        passages = sorted(PASSAGES, key=lambda passage: len(asked & set(passage.split())), reverse=True)[:3]
        found = await self.answer.acall(passages=passages, question=question)
        return dspy.Prediction(number=found.answer.number, source=dict(enumerate(passages)).get(found.answer.passage))


def right_and_cited(example: Any, prediction: Any, trace: Any = None) -> float:
    return (prediction.number == example.number) / 2 + (prediction.source == example.source) / 2


def expert(inputs: dict[str, str]) -> dict[str, Any]:
    number, passage = FACTS[inputs["question"]]
    return {"answer": {"number": number, "passage": json.loads(inputs["passages"]).index(passage)}}


def novice(inputs: dict[str, str]) -> dict[str, Any]:
    return {"answer": {"number": FACTS[inputs["question"]][0], "passage": -1}}


async def main() -> None:
    facts = [dspy.Example(question=q, number=n, source=p).with_inputs("question") for q, (n, p) in FACTS.items()]
    student, budget = RAG(), Budget(max_calls=150)
    config = OptimizerConfig(
        student=student, metric=right_and_cited, trainset=facts, store="rag.db", bsize=6, budget=budget
    )
    result = await Optimizer.run(config)
    print(result)
    for name, program in (("student", student), ("winner", result.program)):
        prediction = await program.acall(question="How many moons has Mars?")
        print(f"{name}: {prediction.number} moons, from the passage {prediction.source!r}")


if __name__ == "__main__":
    with dspy.context(lm=choose_lm(SimulatedLM(expert, novice))):
        asyncio.run(main())
