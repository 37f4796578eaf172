"""The quality of programs after each optimizer on a real model of 135M parameters, for the tasks of `real_tasks`.

    python -m tests.benchmarks.small_model             # the router, five seeds: about three hours on two cores
    python -m tests.benchmarks.small_model --seeds 0
    python -m tests.benchmarks.small_model --tasks router language continent --calls 500

A seed is one order of the trainset and one seed of the optimizer. Accuracies are of examples that no optimizer saw.
The quick start is adaptive with at most 700 calls. Each run is printed when it ends, and the table at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import random
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from simba_actors import Budget, Evaluation, evaluate
from simba_actors.strategies import AppendADemo, AppendLabeledDemos, Recombine
from tests.benchmarks.contenders import Task, dspy_simba, gepa, mipro, optimized, random_search
from tests.benchmarks.real_tasks import TASKS

# Found in the examples' folder, which real_tasks adds to the path.
from local_model import LineAdapter, local_lm, serve  # isort: skip

AT_ONCE = 8
CALLS, STEPS = 1_220, 16
QUICK_START_CALLS, QUICK_START_STEPS = 700, 8
MAX_INSTRUCTION_TOKENS = 128
"""Token limit of the model's replies when GEPA and MIPROv2 let it write an instruction."""
EXCESS = 1.02
"""How much larger than the others' the number of calls may be that SIMBA is sized for."""


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
        max_demos=task.sizes["max_demos"],
        max_concurrency=AT_ONCE,
        stop_when=None,
    )
    return asyncio.run(running)


CONTENDERS: dict[str, Callable[[Task], dspy.Module]] = {
    "student": lambda task: task.student,
    "quick start": lambda task: adaptive(task, min(task.calls, QUICK_START_CALLS), QUICK_START_STEPS),
    "adaptive": lambda task: adaptive(task, task.calls, STEPS),
    "RandomSearch": lambda task: random_search(task, max_labeled_demos=task.sizes["max_demos"]),
    "dspy.MIPROv2": lambda task: mipro(task, max_labeled_demos=task.sizes["max_demos"]),
    "dspy.SIMBA": dspy_simba,
    "dspy.GEPA": gepa,
}


def simba_sizes(calls: int, examples: int) -> dict[str, int]:
    """Return the settings with which `dspy.SIMBA` makes about as many calls."""

    def calls_of(candidates: int, steps: int) -> int:
        return 16 * (2 * candidates + 1) * steps + examples * (1 + min(candidates, steps))

    possible = [pair for pair in product(range(2, 7), range(1, 9)) if calls_of(*pair) <= EXCESS * calls]
    candidates, steps = max(possible, key=lambda pair: calls_of(*pair))
    return {"bsize": 16, "num_candidates": candidates, "max_steps": steps}


def run(of: str, name: str, seed: int, calls: int, prompt_model: dspy.LM) -> tuple[Evaluation, int]:
    """Return the evaluation on held-out examples, and the number of calls that the search took."""
    chosen = TASKS[of]
    train, held_out = chosen.split()
    random.Random(seed).shuffle(train)
    task = Task(
        chosen.student(),
        chosen.metric,
        train,
        seed,
        calls,
        sizes={**simba_sizes(calls, len(train)), "max_demos": chosen.max_demos},
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
    return asyncio.run(evaluate(program, held_out, chosen.metric, max_concurrency=AT_ONCE)), count.calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=["router"], choices=list(TASKS))
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(5)))
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS), help="contenders")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    found: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    with serve() as address, dspy.context(lm=local_lm(address), adapter=WritingAdapter()):
        prompt_model = local_lm(address).copy(max_tokens=MAX_INSTRUCTION_TOKENS, temperature=1.0)
        for seed, of, name in product(options.seeds, options.tasks, options.only):
            held_out, calls = run(of, name, seed, options.calls, prompt_model)
            found[of, name].append((held_out.score, calls))
            print(f"{of}, {name}, seed {seed}, {calls} calls: {held_out}", flush=True)
    print(f"\n{'':<24}{'calls':>7}  held-out accuracy: mean with 95 % interval, each seed")
    for of, name in product(options.tasks, options.only):
        print(row(f"{of}, {name}", found[of, name]))


def row(name: str, found: list[tuple[float, int]]) -> str:
    shares = [share for share, _ in found]
    half = f" ± {1.96 * statistics.stdev(shares) / len(shares) ** 0.5:.1%}" if len(shares) > 1 else ""
    each = " ".join(f"{share:.1%}" for share in shares)
    calls = statistics.mean(calls for _, calls in found)
    return f"{name:<24}{calls:>7.0f}  {statistics.mean(shares):6.1%}{half}   {each}"


if __name__ == "__main__":
    main()
