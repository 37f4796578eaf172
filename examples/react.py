"""python examples/react.py [--model openai/gpt-4o-mini]

An agent with tools, `dspy.ReAct`: SIMBA learns from whole trajectories when to use which tool.
"""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
from simulated_lm import SimulatedLM, choose_lm

from simba_actors import Budget, Optimizer, OptimizerConfig

PRICES = {"lamp": 37, "chair": 129, "table": 480, "shelf": 95, "rug": 210, "vase": 24}


class Cost(dspy.Signature):
    """Answer with the number of dollars alone."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def price(item: str) -> int:
    """Return what one piece costs, in dollars."""
    return PRICES[item]


def multiply(a: int, b: int) -> int:
    """Return a times b."""
    return a * b


def right(example: Any, prediction: Any, trace: Any = None) -> bool:
    return prediction.answer == example.answer


def expert(inputs: dict[str, str]) -> dict[str, Any]:
    count, item = inputs["question"].removeprefix("What do ").removesuffix(" cost?").split()
    cost = PRICES[item]
    steps = [("price", {"item": item}), ("multiply", {"a": int(count), "b": cost}), ("finish", {})]
    done = sum(name.startswith("tool_name") for name in inputs)  # The trajectory's fields are among the inputs.
    tool, arguments = steps[min(done, 2)]
    return _outputs(tool, arguments, int(count) * cost)


def novice(inputs: dict[str, str]) -> dict[str, Any]:
    return _outputs("finish", {}, 100)


def _outputs(tool: str, arguments: dict[str, Any], answer: int) -> dict[str, Any]:
    step = {"next_thought": f"Next: {tool}.", "next_tool_name": tool, "next_tool_args": arguments}
    return {**step, "reasoning": "As observed.", "answer": str(answer)}


async def main() -> None:
    questions = [(f"What do {count} {item} cost?", count * PRICES[item]) for item in PRICES for count in (3, 12)]
    config = OptimizerConfig(
        student=dspy.ReAct(Cost, tools=[price, multiply], max_iters=4),
        metric=right,
        trainset=[dspy.Example(question=q, answer=str(a)).with_inputs("question") for q, a in questions],
        store="react.db",
        bsize=4,
        budget=Budget(max_calls=160),
    )
    result = await Optimizer.run(config)
    print(result)
    for name, program in (("student", config.student), ("winner", result.program)):
        prediction = await program.acall(question="What do 7 table cost?")
        tools = [value for field, value in prediction.trajectory.items() if field.startswith("tool_name")]
        print(f"{name}: {' → '.join(tools)}, answer {prediction.answer}")


if __name__ == "__main__":
    with dspy.context(lm=choose_lm(SimulatedLM(expert, novice))):
        asyncio.run(main())
