"""The quality of the quick start's message router after each optimizer, on a real model of 135M parameters.

    python -m tests.benchmarks.small_model             # five seeds, about three hours on two cores
    python -m tests.benchmarks.small_model --seeds 0

A seed is one order of the trainset and one seed of the optimizer. Accuracies are of messages that no optimizer saw.
The quick start is adaptive with a little more than half of the calls that the others may make.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import random
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from simba_actors import Budget, evaluate
from simba_actors.strategies import AppendADemo, AppendLabeledDemos, Recombine
from tests.benchmarks.contenders import Task, dspy_simba, gepa, mipro, optimized, random_search

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from local_model import LineAdapter, local_lm, serve
from topics import messages, router, same_topic

AT_ONCE = 8
SIMBA_SIZES = {"bsize": 16, "num_candidates": 4, "max_steps": 4, "max_demos": 8}
CALLS, STEPS = 1_220, 16
QUICK_START_CALLS, QUICK_START_STEPS = 700, 8
MAX_INSTRUCTION_TOKENS = 128
"""Token limit of the model's replies when GEPA and MIPROv2 let it write an instruction."""


class CallCount(BaseCallback):
    def __init__(self) -> None:
        self.calls = 0

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.calls += 1


class WritingAdapter(LineAdapter):
    """The examples' adapter, without constraints on replies that are instructions, since those have no labels."""

    def _with_grammar(self, lm_kwargs: dict[str, Any], signature: Any) -> dict[str, Any]:
        (output,) = signature.output_fields.values()
        return super()._with_grammar(lm_kwargs, signature) if output.annotation is not str else lm_kwargs


def adaptive(task: Task, calls: int, steps: int) -> dspy.Module:
    running = optimized(
        replace(task, sizes={}),
        strategies=[AppendADemo(), AppendLabeledDemos(), Recombine()],
        budget=Budget(max_calls=calls),
        max_steps=steps,
        max_demos=8,
        max_concurrency=AT_ONCE,
        stop_when=None,
    )
    return asyncio.run(running)


CONTENDERS: dict[str, Callable[[Task], dspy.Module]] = {
    "student": lambda task: task.student,
    "quick start": lambda task: adaptive(task, QUICK_START_CALLS, QUICK_START_STEPS),
    "adaptive": lambda task: adaptive(task, CALLS, STEPS),
    "RandomSearch": lambda task: random_search(task, max_labeled_demos=SIMBA_SIZES["max_demos"]),
    "dspy.MIPROv2": lambda task: mipro(task, max_labeled_demos=SIMBA_SIZES["max_demos"]),
    "dspy.SIMBA": dspy_simba,
    "dspy.GEPA": gepa,
}


def run(name: str, seed: int, prompt_model: dspy.LM) -> tuple[float, int]:
    """The share of held-out messages that are routed correctly, and the calls that the search took."""
    train, held_out = messages()
    random.Random(seed).shuffle(train)
    task = Task(
        router(),
        same_topic,
        train,
        seed,
        CALLS,
        sizes=SIMBA_SIZES,
        num_threads=AT_ONCE,
        prompt_model=prompt_model,
    )
    count, quiet = CallCount(), io.StringIO()
    with (
        dspy.context(callbacks=[count]),
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
    ):
        program = CONTENDERS[name](task)
    found = asyncio.run(evaluate(program, held_out, same_topic, max_concurrency=AT_ONCE))
    return found.score, count.calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(5)))
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), help="contenders")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"{'':<14}{'calls':>7}  held-out accuracy: mean with 95 % interval, each seed")
    with serve() as address, dspy.context(lm=local_lm(address), adapter=WritingAdapter()):
        prompt_model = local_lm(address).copy(max_tokens=MAX_INSTRUCTION_TOKENS, temperature=1.0)
        for name in chosen.only:
            found: list[tuple[float, int]] = []
            for seed in chosen.seeds:
                found.append(run(name, seed, prompt_model))
                print(f"{name}, seed {seed}: {found[-1][0]:.1%}", file=sys.stderr, flush=True)
            print(row(name, found), flush=True)


def row(name: str, found: list[tuple[float, int]]) -> str:
    shares = [share for share, _ in found]
    half = 1.96 * statistics.stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    each = " ".join(f"{share:.1%}" for share in shares)
    calls = statistics.mean(calls for _, calls in found)
    return f"{name:<14}{calls:>7.0f}  {statistics.mean(shares):6.1%} ± {half:.1%}   {each}"


if __name__ == "__main__":
    main()
