"""python examples/online_examples.py [--model openai/gpt-4o-mini]

What users ask becomes the trainset: a live program keeps the calls that users scored, the wrong ones are corrected, a
run learns from them, and the winner answers from the next call on.
"""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
from simulated_lm import SimulatedLM, choose_lm

from simba_actors import Budget, Channel, LiveProgram, OnlineExample, Optimizer, OptimizerConfig

STORE, CHANNEL = "online_examples.db", "codes"
CODES = {"Berlin": "BER", "Paris": "CDG", "London": "LHR", "Madrid": "MAD", "Rome": "FCO", "Tokyo": "HND"}


class AirportCode(dspy.Signature):
    """Give the code of the city's main airport."""

    city: str = dspy.InputField()
    code: str = dspy.OutputField()


def same(example: Any, prediction: Any, trace: Any = None) -> bool:
    return example.code == prediction.code


def expert(inputs: dict[str, str]) -> dict[str, Any]:
    return {"code": CODES[inputs["city"]]}


def novice(inputs: dict[str, str]) -> dict[str, Any]:
    return {"code": inputs["city"][:3].upper()}


async def serve_users(live: LiveProgram) -> None:
    """Answer each user, who says whether the answer was right."""
    happy = 0
    for city, code in CODES.items():
        with live.call() as call:
            prediction = await live.acall(city=city)
        live.report(float(prediction.code == code), call.id)
        happy += prediction.code == code
    print(f"version {live.version}: {happy} of {len(CODES)} users are happy")
    live.close()  # Waits until all scores are stored.


def corrected(kept: OnlineExample) -> dspy.Example:
    """Return a call as an example. Where the user was happy, its own output is the label."""
    example = kept.to_example()
    return example if kept.score == 1.0 else example.copy(code=CODES[example.city])


async def main() -> None:
    budget = Budget(max_calls=80)
    student = dspy.Predict(AirportCode)
    live = LiveProgram(student, store=STORE, channel=CHANNEL, keep_examples=1000)
    async with await Channel.open(STORE, CHANNEL) as channel:  # Makes the store, so that scores can be kept.
        await serve_users(live)
        examples = [corrected(kept) for kept in await channel.examples()]
    config = OptimizerConfig(
        student=student, metric=same, trainset=examples, store=STORE, channel=CHANNEL, bsize=4, budget=budget
    )
    async with Optimizer.start(config) as optimizer:
        await optimizer.result()
        await optimizer.publish()
    await serve_users(live)


if __name__ == "__main__":
    with dspy.context(lm=choose_lm(SimulatedLM(expert, novice))):
        asyncio.run(main())
