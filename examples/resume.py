"""Kill a run and start it again: no call that was paid for is made twice.

python examples/resume.py        # press Ctrl-C, or kill it, or kill -9 it
python examples/resume.py        # continues
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

import dspy
from local_model import LineAdapter, local_lm, serve
from topics import messages, router, same_topic

from simba_actors import Budget, Optimizer, OptimizerConfig
from simba_actors.events import StepClosed
from simba_actors.strategies import AppendADemo, Recombine


def main() -> None:
    parser = argparse.ArgumentParser(description="Start a run that can be killed, or continue it.")
    parser.add_argument("--store", type=Path, default=Path("resume.db"))
    store: Path = parser.parse_args().store
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # A plain kill ends it like Ctrl-C.
    with serve() as address, dspy.context(lm=local_lm(address), adapter=LineAdapter()):
        asyncio.run(run(store))


async def run(store: Path) -> None:
    train, _ = messages()
    config = OptimizerConfig(
        student=router(),
        metric=same_topic,
        trainset=train[:8],
        store=store,
        bsize=4,
        max_steps=2,
        budget=Budget(max_calls=20),
        strategies=[AppendADemo(), Recombine()],
        max_concurrency=8,
    )
    async with Optimizer.start(config) as optimizer:
        status = await optimizer.status()
        print(
            f"{status.run_id}: {status.rollouts} rollouts and {status.steps_closed} steps are in the store", flush=True
        )
        async for event in optimizer.events():
            if isinstance(event, StepClosed):
                print(f"step {event.step + 1} is over", flush=True)
        result = await optimizer.result()
        print(f"finished with {result.score:.3f} after {result.usage.calls} LM calls")


if __name__ == "__main__":
    main()
