"""How soon the adaptive policy has a program as good as the one that `dspy.SIMBA` ends with, in planted worlds.

    python -m tests.benchmarks.time_to_quality             # a world of each family, with 64 calls in flight
    python -m tests.benchmarks.time_to_quality --concurrency 256 --seeds 3
    python -m tests.benchmarks.time_to_quality --wall --families few_topics graded  # the time of dspy.SIMBA itself

A call takes 0.5 s by a clock that stands still while there is anything to compute, so that the figures don't depend on
the machine. SIMBA's time is that of `policy="dspy"`, which finds the same program. `dspy.SIMBA` itself takes longer: it
writes one rule after another. It runs in threads, so its time can only be taken by the wall clock. `--wall` does that;
nothing else should run on the machine meanwhile. After each step of the adaptive policy, the true quality of the
program that seems best is computed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # Before DSPy: it would look for prices on the network.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # Worlds run side by side; threads within one would only compete.

import dspy
import pytest

from simba_actors import Budget, Configuration, ConfigurationSpace, Optimizer, OptimizerConfig
from simba_actors.events import StepClosed
from simba_actors.store.queries import pool_queries
from simba_actors.store.reading import Reader
from tests.benchmarks.worlds import EXAMPLES, FAMILIES, World, student_of, train_examples, true_quality, world_lm
from tests.benchmarks.worlds.families import world_of
from tests.benchmarks.worlds.tasks import metric_of
from tests.benchmarks.worlds.world import logit
from tests.support.seeded_loop import run_seeded, use_one_thread

LATENCY = 0.5
"""Seconds of a call."""

BARS = {64: 0.15, 256: 0.2}
"""Largest share of SIMBA's time to take, by calls in flight."""


@dataclass(frozen=True)
class Race:
    """The seconds and calls that SIMBA takes in one world, and those until the adaptive policy is as good."""

    family: str
    seed: int
    gain: float
    """SIMBA's gain over the student, in log-odds."""
    seconds: float
    calls: int
    reached: float | None
    """Seconds; None if the adaptive policy ended without a program as good."""
    calls_until_reached: int


@dataclass(frozen=True)
class Setting:
    """What both runs of a race have in common."""

    world: World
    trainset: list[dspy.Example]
    concurrency: int

    def config(
        self, directory: str, asks: list[Any], *, policy: Literal["dspy", "adaptive"], budget: Budget
    ) -> OptimizerConfig:
        return OptimizerConfig(
            student=student_of(self.world),
            metric=metric_of(self.world),
            trainset=self.trainset,
            store=Path(directory) / "simba.db",
            seed=self.world.seed,
            lm=world_lm(self.world, asks=asks, latency=LATENCY),
            policy=policy,
            max_concurrency=self.concurrency,
            budget=budget,
            stop_when=None,
        )


def race(family: str, seed: int, concurrency: int) -> Race:
    logging.disable(logging.WARNING)
    world = world_of(family, seed)
    quiet = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
    ):
        use_one_thread(patch)
        setting = Setting(world, train_examples(world, EXAMPLES.get(family, 200)), concurrency)
        calls, seconds, quality = run_seeded(0, run_to_its_end(setting))
        made, reached = run_seeded(0, run_until(setting, calls, quality))
    gain = logit(quality) - logit(true_quality(world, student_of(world)))
    return Race(family, seed, gain, seconds, calls, reached, made)


async def run_to_its_end(setting: Setting) -> tuple[int, float, float]:
    """Return the calls and seconds of a run with SIMBA's draws, and the true quality of its winner."""
    asks: list[Any] = []
    clock = asyncio.get_running_loop().time
    with tempfile.TemporaryDirectory() as directory:
        began = clock()
        result = await Optimizer.run(setting.config(directory, asks, policy="dspy", budget=Budget()))
        return len(asks), clock() - began, true_quality(setting.world, result.program)


async def run_until(setting: Setting, calls: int, quality: float) -> tuple[int, float | None]:
    """Return the calls and seconds until the program that seems best is as good; None for the seconds if none is."""
    asks: list[Any] = []
    clock = asyncio.get_running_loop().time
    with tempfile.TemporaryDirectory() as directory:
        began = clock()
        config = setting.config(directory, asks, policy="adaptive", budget=Budget(max_calls=calls))
        async with Optimizer.start(config) as optimizer:
            async for event in optimizer.events():
                if isinstance(event, StepClosed):
                    seconds, made = clock() - began, len(asks)
                    if true_quality(setting.world, await best_program(optimizer, setting.world)) >= quality:
                        return made, seconds
    return len(asks), None


async def best_program(optimizer: Optimizer, world: World) -> dspy.Module:
    best = (await optimizer.status()).best
    assert best is not None
    async with await Reader.open(optimizer.store) as store:
        found = await store.ask(pool_queries.program, optimizer.run_id, best.program)
    student = student_of(world)
    return ConfigurationSpace.from_module(student).apply(Configuration.from_json(found.configuration), student)


def wall_seconds(family: str, seed: int, threads: int) -> float:
    """Return the seconds that `dspy.SIMBA` itself takes in a world, by the wall clock."""
    logging.disable(logging.WARNING)
    world, quiet = world_of(family, seed), io.StringIO()
    lm = world_lm(world, asks=[], latency=LATENCY)
    simba = dspy.SIMBA(metric=cast("Any", metric_of(world)), num_threads=threads)
    simba.prompt_model = lm
    trainset = train_examples(world, EXAMPLES.get(family, 200))
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet), dspy.context(lm=lm):
        began = time.perf_counter()
        simba.compile(student_of(world), trainset=trainset, seed=seed)
        return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, default=64, help="calls in flight")
    parser.add_argument("--seeds", type=int, default=1, help="worlds of each family")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--wall", action="store_true", help="only the time of dspy.SIMBA itself, by the wall clock")
    chosen = parser.parse_args(arguments)
    tasks = [(family, seed, chosen.concurrency) for seed in range(chosen.seeds) for family in chosen.families]
    if chosen.wall:
        for family, seed, concurrency in tasks:
            print(f"{family:<16}{seed:>5}{wall_seconds(family, seed, concurrency):>10.0f} s", flush=True)
        return
    print(f"{'family':<16}{'seed':>5}{'gain':>8}{'SIMBA, s':>10}{'calls':>8}{'as good, s':>12}{'calls':>8}{'share':>8}")
    shares: list[float] = []
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        for found in (running.get() for running in [pool.apply_async(race, task) for task in tasks]):
            share = float("inf") if found.reached is None else found.reached / found.seconds
            if found.gain > 0:  # Else the student is as good.
                shares.append(share)
            when = "never" if found.reached is None else f"{found.reached:.0f}"
            print(
                f"{found.family:<16}{found.seed:>5}{found.gain:>8.2f}{found.seconds:>10.0f}{found.calls:>8}"
                f"{when:>12}{found.calls_until_reached:>8}{share:>8.2f}",
                flush=True,
            )
    bar = BARS.get(chosen.concurrency)
    print(
        f"median share {statistics.median(shares):.2f} of {len(shares)} worlds in which dspy.SIMBA gains anything"
        + ("" if bar is None else f", {sum(share <= bar for share in shares)} within {bar} (the bar)")
    )


if __name__ == "__main__":
    main()
