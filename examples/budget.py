"""python examples/budget.py [--model openai/gpt-4o-mini]

A budget. `Optimizer.estimate` runs the student a few times and says what a run would use at most. After its first step
the run forecasts what it will use. At the cap it ends with the best program known by then. Started again with a larger
budget, it continues where it ended and repeats no call.
"""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
from simulated_lm import SimulatedLM, choose_lm

from simba_actors import Budget, Optimizer, OptimizerConfig
from simba_actors.events import BudgetForecast

OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "fast": "slow",
    "old": "young",
    "wet": "dry",
    "rich": "poor",
    "early": "late",
}


def same(example: Any, prediction: Any, trace: Any = None) -> bool:
    return example.opposite == prediction.opposite


def expert(inputs: dict[str, str]) -> dict[str, Any]:
    return {"opposite": OPPOSITES[inputs["word"]]}


def novice(inputs: dict[str, str]) -> dict[str, Any]:
    return {"opposite": f"not {inputs['word']}"}


async def run(budget: Budget, seen: int) -> int:
    """Run until the budget is reached, and return the number of the last event. Those up to `seen` are not new."""
    config = OptimizerConfig(
        student=dspy.Predict("word -> opposite"),
        metric=same,
        trainset=[dspy.Example(word=w, opposite=opposite).with_inputs("word") for w, opposite in OPPOSITES.items()],
        store="budget.db",
        run_id="opposites",  # A run that is started again may have another budget; all else must be the same.
        bsize=4,
        num_candidates=3,
        max_steps=4,
        budget=budget,
        stop_when=None,  # By default the run would end by itself here, before its budget is reached.
    )
    print(f"estimate: {await Optimizer.estimate(config)}")
    async with Optimizer.start(config) as optimizer:
        async for event in optimizer.events(after=seen):
            seen = event.seq
            if isinstance(event, BudgetForecast):
                print(f"forecast: {event.calls} calls, {event.tokens} tokens, {event.seconds:.1f} s, by the first step")
        result = await optimizer.result()
    usage, cap = result.usage, result.budget_reached
    print(f"result: {result.steps} steps, {usage.calls} calls, score {result.finalists[0]}, cap reached: {cap}\n")
    return seen


async def main() -> None:
    seen = 0
    for budget in (Budget(max_tokens=10_000), Budget(max_tokens=100_000, max_seconds=3600)):
        print(f"with at most {budget.max_tokens:,} tokens")
        seen = await run(budget, seen)


if __name__ == "__main__":
    with dspy.context(lm=choose_lm(SimulatedLM(expert, novice))):
        asyncio.run(main())
