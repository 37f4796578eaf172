"""python examples/llm_judge.py [--model openai/gpt-4o-mini]

An LM as the judge, for tasks without right answers. Its score is the metric, and the LM that writes rules reads its
feedback.
"""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
from simulated_lm import SimulatedLM, choose_lm

from simba_actors import Budget, LearnFromFailures, MergeRules, Optimizer, OptimizerConfig, Recombine

COMPLAINTS = [
    f"{what} {went_wrong}." for what in ("My order", "The lamp") for went_wrong in ("is late", "broke", "is lost")
]
RULE = "Say sorry, and say what happens next."


class Judge(dspy.Signature):
    """Judge a reply to a customer: is it kind, and does it say what happens next?"""

    complaint: str = dspy.InputField()
    reply: str = dspy.InputField()
    feedback: str = dspy.OutputField(desc="What is missing, if anything")
    score: float = dspy.OutputField(desc="From 0 to 1")


judge = dspy.Predict(Judge)


async def judged(example: Any, prediction: Any, trace: Any = None) -> dspy.Prediction:
    """Return the judge's score and feedback. Its calls count in the run's budget as well."""
    verdict = await judge.acall(complaint=example.complaint, reply=prediction.reply)
    return dspy.Prediction(score=verdict.score, feedback=verdict.feedback)


def expert(inputs: dict[str, str]) -> dict[str, Any]:
    return {"reply": "I am sorry. You will get a new one by Friday."}


def novice(inputs: dict[str, str]) -> dict[str, Any]:
    return {"reply": "I see."}


def strict_judge(inputs: dict[str, str]) -> dict[str, Any]:
    score = ("sorry" in inputs["reply"]) * 0.5 + ("will" in inputs["reply"]) * 0.5
    return {"score": score, "feedback": "Good." if score == 1.0 else RULE}


async def main() -> None:
    config = OptimizerConfig(
        student=dspy.Predict("complaint -> reply"),
        metric=judged,
        trainset=[dspy.Example(complaint=complaint).with_inputs("complaint") for complaint in COMPLAINTS],
        strategies=[LearnFromFailures(), MergeRules(), Recombine()],  # Rules alone: no demos.
        store="llm_judge.db",
        bsize=4,
        budget=Budget(max_calls=200),
    )
    result = await Optimizer.run(config)
    winner: Any = result.program
    print(result)
    print(f"\nThe winner's instructions:\n{winner.signature.instructions}")
    print((await winner.acall(complaint="The table has three legs.")).reply)


if __name__ == "__main__":
    lm = choose_lm(SimulatedLM(expert, novice, RULE))
    judge.lm = choose_lm(SimulatedLM(strict_judge, strict_judge))
    with dspy.context(lm=lm):
        asyncio.run(main())
