"""Optimizes a student in another process. Start one first; it may be written in any language.

python examples/students/optimize.py http://127.0.0.1:7000
python examples/students/optimize.py grpc://127.0.0.1:7001 http://127.0.0.1:7000
"""

from __future__ import annotations

import asyncio
import sys

import dspy

from simba_actors import Optimizer, OptimizerConfig, RemoteStudent

CAPITALS = {
    "Austria": "Vienna",
    "Bolivia": "Sucre",
    "Canada": "Ottawa",
    "Egypt": "Cairo",
    "Finland": "Helsinki",
    "Ghana": "Accra",
    "India": "New Delhi",
    "Japan": "Tokyo",
}


def metric(example: dspy.Example, prediction: dspy.Prediction) -> bool:
    """Return whether the answer is the capital and nothing else. It runs here, not in the student."""
    return bool(prediction.answer == example.answer)


async def main(addresses: list[str]) -> None:
    student = await asyncio.to_thread(RemoteStudent, addresses)
    rows = [dspy.Example(question=f"What is the capital of {land}?", answer=city) for land, city in CAPITALS.items()]
    config = OptimizerConfig(
        student=student,
        metric=metric,
        trainset=[row.with_inputs("question") for row in rows],
        store="students.db",
        prompt_model=dspy.LM("openai/gpt-5-mini"),  # Writes rules; the student has an LM of its own.
        bsize=4,
        max_steps=2,
    )
    async with await Optimizer.start(config) as optimizer:
        result = await optimizer.result()
    print(result)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
