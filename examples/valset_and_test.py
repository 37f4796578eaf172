"""python examples/valset_and_test.py [--model openai/gpt-4o-mini]

Three sets of examples: programs learn from the trainset, the winner is chosen on the valset, and its score is measured
on the test set, on which nothing was chosen.
"""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
from simulated_lm import SimulatedLM, choose_lm

from simba_actors import Budget, Optimizer, OptimizerConfig, evaluate

NUMERALS = {100: "C", 90: "XC", 50: "L", 40: "XL", 10: "X", 9: "IX", 5: "V", 4: "IV", 1: "I"}


def roman(number: int) -> str:
    written = ""
    for value, numeral in NUMERALS.items():
        count, number = divmod(number, value)
        written += numeral * count
    return written


def same(example: Any, prediction: Any, trace: Any = None) -> bool:
    return example.numeral == prediction.numeral


def expert(inputs: dict[str, str]) -> dict[str, Any]:
    return {"numeral": roman(int(inputs["number"]))}


def novice(inputs: dict[str, str]) -> dict[str, Any]:
    """Know only how to count up."""
    return {"numeral": "I" * int(inputs["number"])}


async def main() -> None:
    examples = [dspy.Example(number=n, numeral=roman(n)).with_inputs("number") for n in range(1, 91)]
    trainset, valset, testset = examples[::3], examples[1::3], examples[2::3]
    config = OptimizerConfig(
        student=dspy.Predict("number: int -> numeral"),
        metric=same,
        trainset=trainset,
        valset=valset,
        store="valset_and_test.db",
        bsize=6,
        budget=Budget(max_calls=200),
    )
    result = await Optimizer.run(config)
    print(result)
    print("\nOn the test set (with 95 % intervals):")
    print(f"  student  {await evaluate(config.student, testset, same)}")
    print(f"  winner   {await evaluate(result.program, testset, same)}")


if __name__ == "__main__":
    with dspy.context(lm=choose_lm(SimulatedLM(expert, novice))):
        asyncio.run(main())
