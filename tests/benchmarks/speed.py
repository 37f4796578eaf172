"""Wall time, rollouts a second and memory of a run, beside `dspy.SIMBA` and a bare `asyncio.gather` of its rollouts.

    python -m tests.benchmarks.speed           # all, about 12 minutes
    python -m tests.benchmarks.speed --short   # one repetition of the small ones
    python -m tests.benchmarks.speed --slots   # only the share of the allowed calls that are in flight, six minutes

Each figure is of a process of its own, so that none warms up or bloats another. The contenders take turns, so that a
machine that slows down for a while slows all of them; the ratios are of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from tests.benchmarks import slots

BSIZE, CANDIDATES, STEPS, EXAMPLES = 32, 6, 4, 64
"""The measured run: 1,984 LM calls, and those that write rules."""


@dataclass(frozen=True)
class Case:
    """One run: LM calls in flight, seconds that each takes, and seconds that writing a rule takes (None: no rules)."""

    name: str
    concurrency: int
    latency: float
    rule_latency: float | None
    bar: float | None
    repetitions: int


CASES = (
    Case("64 in flight, 50 ms", 64, 0.05, None, 0.9, 5),
    Case("256 in flight, 500 ms", 256, 0.5, None, 0.8, 3),
    Case("64 in flight, 50 ms, 5 s a rule", 64, 0.05, 5.0, 0.4, 1),
    Case("32 in flight, no latency", 32, 0.0, None, None, 5),
)
GATHER_BAR = 0.85
"""Minimum rollouts per second without latency, as a share of the bare gather's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--slots", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("WHO", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        who, case = options.one
        print(json.dumps(measured(RUNNERS[who], CASES[int(case)])))
        return
    if not options.slots:
        print(f"{'':<34}{'who':<14}{'seconds':>9}{'calls':>8}{'calls/s':>9}{'peak MB':>9}   ratio to dspy.SIMBA")
        for number, case in enumerate(CASES):
            if not (options.short and case.rule_latency):
                report(case, figures(number, 1 if options.short else case.repetitions))
    if not options.short:
        print(f"{'':<34}{'who':<14}{'seconds':>9}{'calls':>8}{'slots used':>13}{'without CPU':>13}")
        for case in slots.CASES:
            slots.report(case)


def report(case: Case, found: dict[str, dict[str, float]]) -> None:
    theirs = found["dspy.SIMBA"]["seconds"]
    for who, figure in found.items():
        rate = figure["calls"] / figure["seconds"]
        ratio = "" if who == "dspy.SIMBA" else f"{figure['seconds'] / theirs:.2f}"
        bar = f"  (bar: at most {case.bar})" if case.bar and who == "simba_actors" else ""
        print(
            f"{case.name:<34}{who:<14}{figure['seconds']:>9.2f}{figure['calls']:>8.0f}{rate:>9.0f}"
            f"{figure['megabytes']:>9.0f}   {ratio}{bar}",
            flush=True,
        )
    if case.latency == 0.0:
        ours, bare = (found[who]["calls"] / found[who]["seconds"] for who in ("simba_actors", "bare gather"))
        print(f"{case.name:<34}calls a second, ours to bare gather: {ours / bare:.2f}  (bar: at least {GATHER_BAR})")


def figures(case: int, repetitions: int) -> dict[str, dict[str, float]]:
    """Return each contender's run with the median time of `repetitions`."""
    runs: dict[str, list[dict[str, float]]] = {who: [] for who in RUNNERS}
    for _ in range(repetitions):
        for who, found in runs.items():
            command = [sys.executable, "-m", "tests.benchmarks.speed", "--one", who, str(case)]
            found.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    return {who: _middle(found) for who, found in runs.items()}


def _middle(runs: list[dict[str, float]]) -> dict[str, float]:
    return sorted(runs, key=lambda run: run["seconds"])[(len(runs) - 1) // 2]


def measured(run: Callable[[Case, Any], float], case: Case) -> dict[str, float]:
    """Return the seconds, the LM calls, and the process's peak resident memory."""
    for module in ("numpy.random", "simba_actors.optimizer", "anyio._backends._asyncio"):
        importlib.import_module(module)  # So that no run is charged for what loads once a process.
    lm = make_lm(case)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        seconds = run(case, lm)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "calls": len(lm.asks), "megabytes": megabytes}


def make_lm(case: Case) -> Any:
    """An LM whose replies can all be parsed. One that can't is asked for again, which doubles the length of its
    phase."""
    from tests.support.quiz import legible_script
    from tests.support.scripted_lm import Ask, ScriptedLM

    def latency(ask: Ask) -> float:
        return (case.rule_latency or 0.0) if "module_advice" in ask.fields else case.latency

    return ScriptedLM(legible_script, latency=latency)


def settings(case: Case) -> dict[str, Any]:
    return {
        "bsize": BSIZE,
        "num_candidates": CANDIDATES,
        "max_steps": STEPS,
        "max_demos": 4,
        "num_threads": case.concurrency,
    }


def run_dspy(case: Case, lm: Any) -> float:
    import dspy

    from tests.support.quiz import exact, questions

    simba = dspy.SIMBA(metric=cast("Any", exact), **settings(case))
    simba.prompt_model = lm
    if case.rule_latency is None:
        simba.strategies = simba.strategies[:1]
    with dspy.context(lm=lm):
        return timed(lambda: simba.compile(dspy.Predict("question -> answer"), trainset=questions(EXAMPLES), seed=0))


def run_ours(case: Case, lm: Any) -> float:
    with tempfile.TemporaryDirectory() as directory:
        return timed(lambda: asyncio.run(optimize(case, lm, Path(directory) / "simba.db")))


async def optimize(case: Case, lm: Any, store: Path) -> str:
    """Return the id of the finished run."""
    import dspy

    from simba_actors import Optimizer, OptimizerConfig
    from simba_actors.strategies import AppendADemo
    from tests.support.quiz import exact, questions

    config = OptimizerConfig(
        student=dspy.Predict("question -> answer"),
        metric=exact,
        trainset=questions(EXAMPLES),
        store=store,
        lm=lm,
        policy="dspy",
        strategies=[AppendADemo()] if case.rule_latency is None else None,
        bsize=BSIZE,
        num_candidates=CANDIDATES,
        max_steps=STEPS,
        max_concurrency=case.concurrency,
    )
    async with await Optimizer.start(config) as optimizer:
        return (await optimizer.result()).run_id


def run_gather(case: Case, lm: Any) -> float:
    """Repeat the rollouts of a run: the same programs on the same rows, without scores or anything in between."""
    import dspy

    from tests.support.quiz import questions

    rows = questions(EXAMPLES)
    planned = asyncio.run(rollouts(case))
    lm.asks.clear()

    async def run() -> None:
        turns = asyncio.Semaphore(case.concurrency)

        async def one(program: Any, row: int) -> None:
            async with turns:
                await program.acall(**rows[row].inputs())

        await asyncio.gather(*(one(program, row) for program, row in planned), return_exceptions=True)

    with dspy.context(lm=lm):
        return timed(lambda: asyncio.run(run()))


async def rollouts(case: Case) -> list[tuple[Any, int]]:
    """Return the programs and rows of a run's rollouts, in order."""
    import dspy

    from simba_actors.programs import Configuration, ConfigurationSpace
    from simba_actors.store import Reader

    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(student)
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "simba.db"
        run_id = await optimize(case, make_lm(replace(case, latency=0.0, rule_latency=0.0)), store)
        async with await Reader.open(store) as reader:
            stored = await reader.programs(run_id)
            scores = await reader.scores(run_id)
    programs = {p.number: space.apply(Configuration.from_json(p.configuration), student) for p in stored}
    return [(programs[score.program], score.example) for score in scores]


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


RUNNERS: dict[str, Callable[[Case, Any], float]] = {
    "bare gather": run_gather,
    "dspy.SIMBA": run_dspy,
    "simba_actors": run_ours,
}


if __name__ == "__main__":
    main()
