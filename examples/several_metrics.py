"""python examples/several_metrics.py [--model openai/gpt-4o-mini]

Two scores of which one gets worse as the other gets better: `Weighted` says how much each counts, and `Pareto` returns
the programs to choose from.
"""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
from simulated_lm import SimulatedLM, choose_lm

from simba_actors import Budget, Optimizer, OptimizerConfig, OptimizerResult, Pareto, Weighted

CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Peru": "Lima", "Chad": "N'Djamena", "Fiji": "Suva"}


class Capital(dspy.Signature):
    """Name the country's capital."""

    country: str = dspy.InputField()
    answer: str = dspy.OutputField()


def accuracy_and_brevity(example: Any, prediction: Any, trace: Any = None) -> dspy.Prediction:
    answer = str(prediction.answer)
    return dspy.Prediction(accuracy=example.answer in answer, brevity=1 / max(1, len(answer.split())))


def expert(inputs: dict[str, str]) -> dict[str, Any]:
    return {"answer": f"It is {CAPITALS[inputs['country']]}."}


def novice(inputs: dict[str, str]) -> dict[str, Any]:
    return {"answer": "Unknown"}


async def optimize(objectives: Weighted | Pareto) -> OptimizerResult:
    config = OptimizerConfig(
        student=dspy.Predict(Capital),
        metric=accuracy_and_brevity,
        objectives=objectives,
        trainset=[dspy.Example(country=c, answer=capital).with_inputs("country") for c, capital in CAPITALS.items()],
        store="several_metrics.db",
        bsize=4,
        budget=Budget(max_calls=80),
    )
    return await Optimizer.run(config)


async def main() -> None:
    for objectives in (Weighted({"accuracy": 0.8, "brevity": 0.2}), Pareto(["accuracy", "brevity"])):
        result = await optimize(objectives)
        print(f"{objectives}, the winner first:")
        if result.finalists[0].number == 0:
            print("  (by the mean of both scores no program is better than the student beyond doubt)")
        for finalist in result.finalists:
            scores = ", ".join(f"{name} {score:.2f}" for name, score in (finalist.scores or {}).items())
            name = "the student" if finalist.number == 0 else f"program {finalist.number}"
            print(f"  {name + ':':12} {scores}; together {finalist}")


if __name__ == "__main__":
    with dspy.context(lm=choose_lm(SimulatedLM(expert, novice))):
        asyncio.run(main())
