"""python examples/rollouts_on_ray.py [--workers 2] [--model openai/gpt-4o-mini]

Rollouts in worker processes of Ray: of the cluster that RAY_ADDRESS names, or of this machine. This process keeps the
run, its budget and the limits of endpoints; workers run the student and the metric. Each worker makes the student for
itself, since its client can't travel.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
from typing import Any

import dspy
from simulated_lm import SimulatedLM

from simba_actors import Budget, Optimizer, OptimizerConfig, RayExecutor

CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Peru": "Lima", "Cuba": "Havana"}


class Client:
    """Stands for a client of a database: it has a lock, and belongs to the process that made it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def look_up(self, country: str) -> str:
        with self._lock:
            return f"{country}: worker {os.getpid()}"


class Geographer(dspy.Module):
    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.answer = dspy.Predict("country, notes -> capital")

    async def aforward(self, country: str) -> dspy.Prediction:
        found = await self.answer.acall(country=country, notes="")
        return dspy.Prediction(capital=found.capital, source=self.client.look_up(country))


def make_parts() -> dict[str, Any]:
    """Called in each worker. Keys for clients come from the worker's environment."""
    return {"student": Geographer(Client())}


def same(example: Any, prediction: Any, trace: Any = None) -> bool:
    return example.capital == prediction.capital


def expert(inputs: dict[str, str]) -> dict[str, Any]:
    return {"capital": CAPITALS[inputs["country"]]}


def novice(inputs: dict[str, str]) -> dict[str, Any]:
    return {"capital": f"the capital of {inputs['country']}"}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    config = OptimizerConfig(
        student=Geographer(Client()),
        metric=same,
        trainset=[dspy.Example(country=c, capital=capital).with_inputs("country") for c, capital in CAPITALS.items()],
        lm=dspy.LM(arguments.model) if arguments.model else SimulatedLM(expert, novice),
        store="ray.db",
        bsize=4,
        budget=Budget(max_calls=60),
        executor=RayExecutor(workers=arguments.workers, setup=make_parts),
    )
    async with Optimizer.start(config) as optimizer:
        print(await optimizer.result())


if __name__ == "__main__":
    asyncio.run(main())
