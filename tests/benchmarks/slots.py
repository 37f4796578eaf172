"""How many of the allowed LM calls a run keeps in flight. `tests.benchmarks.speed` prints it; see there.

A call takes 0.5 s, on 200 examples and with as many calls as `dspy.SIMBA` makes at its defaults. The share of slots
used is the time that calls take together, in relation to the time of the run and the calls that may be in flight. It is
measured twice: by the wall clock, where the CPU time between the calls leaves slots idle too, and by a clock that
stands still while there is anything to compute, which shows what the search itself leaves idle.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

LATENCY, EXAMPLES, CALLS = 0.5, 200, 4_750
"""Seconds of a call, and the size of the run."""


@dataclass(frozen=True)
class Case:
    """Calls that may be in flight, seconds that writing a rule takes, and the least share of slots to use."""

    concurrency: int
    rule_latency: float
    bar: float | None


CASES = (Case(64, LATENCY, 0.85), Case(256, LATENCY, 0.70), Case(64, 5.0, None))


@dataclass
class InFlight:
    """Counts the calls of an LM from any thread."""

    clock: Callable[[], float]
    case: Case
    first: float = float("inf")
    last: float = 0.0
    busy: float = 0.0
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def latency(self, ask: Any) -> float:
        seconds = self.case.rule_latency if "module_advice" in ask.fields else LATENCY
        now = self.clock()
        with self.lock:
            self.first, self.last = min(self.first, now), max(self.last, now + seconds)
            self.busy += seconds
            self.calls += 1
        return seconds

    def share(self) -> float:
        return self.busy / (self.last - self.first) / self.case.concurrency


def report(case: Case) -> None:
    """Print a line for each contender."""
    rules = "" if case.rule_latency == LATENCY else f", {case.rule_latency:g} s a rule"
    name = f"{case.concurrency} in flight, {1_000 * LATENCY:g} ms{rules}"
    for who in ("dspy.SIMBA", "dspy", "adaptive"):
        found = in_own_process(who, case, "wall")
        still = None if who == "dspy.SIMBA" else in_own_process(who, case, "still")
        without_cpu = f"{'':>13}" if still is None else f"{still['share']:>13.2f}"
        bar = f"   (bar: at least {case.bar})" if case.bar and who == "adaptive" else ""
        print(
            f"{name:<34}{who:<14}{found['seconds']:>9.1f}{found['calls']:>8}{found['share']:>13.2f}{without_cpu}{bar}",
            flush=True,
        )


def in_own_process(who: str, case: Case, clock: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.slots", who, str(CASES.index(case)), clock]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def measured(who: str, case: Case, clock: str) -> dict[str, Any]:
    """Return the seconds from the first call to the end of the last, the calls, and the share of slots used."""
    if who == "dspy.SIMBA":
        in_flight = InFlight(time.monotonic, case)
        run_dspy(in_flight)
    elif clock == "wall":
        in_flight = InFlight(time.monotonic, case)
        asyncio.run(optimize(cast("Any", who), in_flight))
    else:
        in_flight = run_on_a_clock_that_stands_still(cast("Any", who), case)
    seconds = in_flight.last - in_flight.first
    return {"seconds": seconds, "calls": in_flight.calls, "share": in_flight.share()}


def run_on_a_clock_that_stands_still(policy: Literal["dspy", "adaptive"], case: Case) -> InFlight:
    import pytest

    from tests.support.seeded_loop import run_seeded, use_one_thread

    async def main() -> InFlight:
        in_flight = InFlight(asyncio.get_running_loop().time, case)
        await optimize(policy, in_flight)
        return in_flight

    with pytest.MonkeyPatch.context() as patch:
        use_one_thread(patch)
        return run_seeded(0, main())


def run_dspy(in_flight: InFlight) -> None:
    import dspy

    from tests.support.quiz import exact, questions

    lm = scripted(in_flight)
    simba = dspy.SIMBA(metric=cast("Any", exact), num_threads=in_flight.case.concurrency)
    simba.prompt_model = lm
    with dspy.context(lm=lm):
        simba.compile(dspy.Predict("question -> answer"), trainset=questions(EXAMPLES), seed=0)


async def optimize(policy: Literal["dspy", "adaptive"], in_flight: InFlight) -> None:
    import dspy

    from simba_actors import Budget, Optimizer, OptimizerConfig
    from tests.support.quiz import exact, questions

    with tempfile.TemporaryDirectory() as directory:
        config = OptimizerConfig(
            student=dspy.Predict("question -> answer"),
            metric=exact,
            trainset=questions(EXAMPLES),
            store=Path(directory) / "simba.db",
            lm=scripted(in_flight),
            policy=policy,
            max_concurrency=in_flight.case.concurrency,
            budget=Budget(max_calls=CALLS) if policy == "adaptive" else Budget(),
            stop_when=None,
        )
        async with await Optimizer.start(config) as optimizer:
            await optimizer.result()


def scripted(in_flight: InFlight) -> Any:
    from tests.support.quiz import legible_script
    from tests.support.scripted_lm import ScriptedLM

    return ScriptedLM(legible_script, latency=in_flight.latency)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("who", choices=("dspy.SIMBA", "dspy", "adaptive"))
    parser.add_argument("case", type=int, choices=range(len(CASES)))
    parser.add_argument("clock", choices=("wall", "still"))
    options = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = measured(options.who, CASES[options.case], options.clock)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
