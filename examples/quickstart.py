"""Optimize a message router on a small local model, and measure the gain on messages that the run never saw.

    python examples/quickstart.py                              # SmolLM2-135M, on loopback
    python examples/quickstart.py --model openai/gpt-4o-mini   # any model that DSPy takes

Kill it whenever you like and run it again: it continues where it was.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import dspy
from local_model import LineAdapter, local_lm, serve
from topics import messages, router, same_topic

from simba_actors import (
    AppendADemo,
    AppendLabeledDemos,
    Budget,
    Evaluation,
    Optimizer,
    OptimizerConfig,
    Recombine,
    evaluate,
)

AT_ONCE = 8


def main() -> None:
    options = parse_options()
    with model(options.model, options.api_base) as (lm, adapter), dspy.context(lm=lm, adapter=adapter):
        asyncio.run(optimize(options))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Optimize a message router, and test it on held-out messages.")
    parser.add_argument("--model", help="a model, named as in DSPy (default: SmolLM2-135M on this machine)")
    parser.add_argument("--api-base", help="the address of the model's API, if it is not the provider's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, default=Path("quickstart.db"), help="where to keep the run")
    return parser.parse_args()


@contextmanager
def model(name: str | None, api_base: str | None) -> Generator[tuple[dspy.LM, dspy.Adapter]]:
    """Yield the LM to use, and an adapter whose format it can follow."""
    if name is not None:
        yield dspy.LM(name, api_base=api_base), dspy.ChatAdapter()
        return
    with serve() as address:
        yield local_lm(address), LineAdapter()


async def optimize(options: argparse.Namespace) -> None:
    student = router()
    train, held_out = messages()
    config = OptimizerConfig(
        student=student,
        metric=same_topic,
        trainset=train,
        store=options.store,
        seed=options.seed,
        # A model with 135M parameters learns from demos, but can't write rules.
        strategies=[AppendADemo(), AppendLabeledDemos(), Recombine()] if options.model is None else None,
        budget=Budget(max_calls=700),
        max_steps=8,
        max_demos=8,
        max_concurrency=AT_ONCE,
        progress=True,
    )
    result = await Optimizer.run(config)
    before = await evaluate(student, held_out, same_topic, max_concurrency=AT_ONCE)
    after = await evaluate(result.program, held_out, same_topic, max_concurrency=AT_ONCE)
    print(f"\n{result}")
    print(f"\nOn {len(held_out)} messages that the optimizer never saw (with 95 % intervals):")
    print(f"  student  {accuracy(before)}")
    print(f"  winner   {accuracy(after)}")


def accuracy(measured: Evaluation) -> str:
    return f"{measured.score:5.1%}  [{measured.low:.1%}, {measured.high:.1%}]"


if __name__ == "__main__":
    main()
