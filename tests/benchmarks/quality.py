"""The quality of the programs that optimizers find with equal numbers of LM calls, in planted worlds.

    python -m tests.benchmarks.quality            # all contenders, three worlds of each family
    python -m tests.benchmarks.quality --short    # one small world: checks that the table can be made
    python -m tests.benchmarks.quality --families trap no_headroom --only adaptive --seeds 20 --calls 1000

Each contender may make as many LM calls as `dspy.SIMBA` makes at its defaults on 200 examples; adaptive is run with a
share of them too. With `--calls`, all make that many calls, and `dspy.SIMBA`, which takes no such limit, is left out. A
gain is the difference in log-odds between the true quality of the program and that of the student, since a ceiling
hides gains otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # Before DSPy: it would look for prices on the network.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # Worlds run side by side; threads within one would only compete.

import dspy

from simba_actors.dspy_compat.prompt_cache import with_prompt_cache
from tests.benchmarks.contenders import CONTENDERS, Task
from tests.benchmarks.worlds import (
    EXAMPLES,
    FAMILIES,
    TWINS,
    student_of,
    train_examples,
    true_quality,
    world_lm,
    world_of,
)
from tests.benchmarks.worlds.tasks import metric_of
from tests.benchmarks.worlds.world import logit
from tests.support.scripted_lm import Ask

YARDSTICK = "dspy.SIMBA"
SHARES = (0.15, 0.35)
"""Default shares of the yardstick's calls that adaptive also runs with."""

WORSE = 1e-6
"""Loss in log-odds from which a program counts as worse than the student."""

SHORT_SIZES: dict[str, Any] = {"bsize": 8, "num_candidates": 2, "max_steps": 2}


@dataclass(frozen=True)
class Outcome:
    """The program that one contender found in one world."""

    contender: str
    family: str
    gain: float
    calls: int
    seconds: float


@dataclass(frozen=True)
class Job:
    """A world and its contenders."""

    family: str
    seed: int
    examples: int
    sizes: dict[str, Any]
    contenders: tuple[str, ...]


class Trial(NamedTuple):
    """One contender with its number of calls, 0 for its defaults, and its `title` in the table."""

    job: Job
    title: str
    contender: str
    calls: int


def yardstick_in(job: Job) -> Trial:
    return Trial(job, YARDSTICK, YARDSTICK, 0)


def others_in(job: Job, calls: int, shares: Sequence[float]) -> list[Trial]:
    """Return the jobs of the other contenders with as many calls as the yardstick took, and of adaptive with shares."""
    whole = [Trial(job, name, name, calls) for name in job.contenders if name != YARDSTICK]
    return [*whole, *(Trial(job, f"adaptive, {share:.0%}", "adaptive", int(calls * share)) for share in shares)]


def with_calls(job: Job, calls: int) -> list[Trial]:
    """Return the jobs of all contenders, with this many calls for each predictor."""
    calls *= world_of(job.family, job.seed).stages
    return [Trial(job, name, name, calls) for name in job.contenders if name != YARDSTICK]


def run(trial: Trial) -> Outcome:
    return outcome_of(*trial)


def prepare_worker() -> None:
    """Silence logs, and collect garbage rarely, which would take a tenth of the time for every contender."""
    logging.disable(logging.WARNING)
    gc.freeze()
    gc.set_threshold(50_000)


def outcome_of(job: Job, title: str, contender: str, calls: int) -> Outcome:
    """What `contender` finds with `calls` in the job's world.

    Every contender's prompts are remembered: they are DSPy's to the letter, and writing them is up to half of its time.
    """
    world = world_of(job.family, job.seed)
    asks: list[Ask] = []
    trainset = train_examples(world, job.examples)
    task = Task(student_of(world), metric_of(world), trainset, world.seed, calls, world.stages, job.sizes)
    started = time.perf_counter()
    quiet = io.StringIO()
    with (
        dspy.context(lm=world_lm(world, asks=asks), adapter=with_prompt_cache(dspy.ChatAdapter())),
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
    ):
        program = CONTENDERS[contender](task)
    seconds = time.perf_counter() - started
    gain = logit(true_quality(world, program)) - logit(true_quality(world, student_of(world)))
    return Outcome(title, job.family, gain, len(asks), seconds)


def table(outcomes: Sequence[Outcome]) -> str:
    """Print gains relative to the yardstick's by family, the mean gain with its 95 % interval, and the calls."""
    families = list(dict.fromkeys(outcome.family for outcome in outcomes))
    lines = [
        "".join([f"{'':<16}", *(f"{name:>13}" for name in families), f"{'all':>8}{'gain':>16}{'calls':>8}{'s':>7}"])
    ]
    for name in dict.fromkeys(outcome.contender for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.contender == name]
        cells = [f"{_ratio(outcomes, name, [family]):>13.2f}" for family in families]
        gains = [outcome.gain for outcome in own]
        half = 1.96 * statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
        calls, seconds = (statistics.mean(values) for values in ([o.calls for o in own], [o.seconds for o in own]))
        total = f"{_ratio(outcomes, name, families):>8.2f}{statistics.mean(gains):>9.2f} ± {half:.2f}"
        lines.append(f"{name:<16}{''.join(cells)}{total}{calls:>8.0f}{seconds:>7.1f}")
    return "\n".join(lines)


def gains(outcomes: Sequence[Outcome]) -> str:
    """Print the mean gain by family with its 95 % interval, calls, and the number of programs worse than the
    student."""
    lines: list[str] = []
    for family in dict.fromkeys(outcome.family for outcome in outcomes):
        lines.append(family)
        for name in dict.fromkeys(outcome.contender for outcome in outcomes):
            own = [outcome for outcome in outcomes if (outcome.contender, outcome.family) == (name, family)]
            found = [outcome.gain for outcome in own]
            half = 1.96 * statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else float("nan")
            worse, calls = sum(gain < -WORSE for gain in found), statistics.mean(o.calls for o in own)
            row = f"{statistics.mean(found):>8.2f} ± {half:.2f}{worse:>6} of {len(own)} worse{calls:>8.0f} calls"
            lines.append(f"  {name:<20}{row}{statistics.mean(o.seconds for o in own):>7.1f} s")
    return "\n".join(lines)


def _ratio(outcomes: Iterable[Outcome], contender: str, families: Sequence[str]) -> float:
    """Return the contender's mean gain relative to the yardstick's."""
    chosen = [outcome for outcome in outcomes if outcome.family in families]
    own, theirs = (
        statistics.mean(outcome.gain for outcome in chosen if outcome.contender == name)
        for name in (contender, YARDSTICK)
    )
    return own / theirs if theirs else float("nan")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="one small world")
    parser.add_argument("--seeds", type=int, default=3, help="worlds of each family")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), help="contenders beside dspy.SIMBA")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=[*FAMILIES, *TWINS])
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES, help="shares of the calls for adaptive")
    parser.add_argument("--calls", type=int, default=0, help="calls of each predictor, without dspy.SIMBA")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    chosen = parser.parse_args(arguments)
    contenders = tuple(chosen.only)
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    if chosen.short:
        jobs = [Job("few_topics", 0, 24, SHORT_SIZES, contenders)]
    else:
        jobs = [
            Job(family, seed, EXAMPLES.get(family, 200), {}, contenders) for seed in seeds for family in chosen.families
        ]
    context = multiprocessing.get_context("spawn")
    with context.Pool(chosen.processes, initializer=prepare_worker) as pool:
        outcomes: list[Outcome] = []
        if chosen.calls:
            trials = [trial for job in jobs for trial in with_calls(job, chosen.calls)]
        else:
            outcomes = pool.map(run, [yardstick_in(job) for job in jobs], chunksize=1)
            found = zip(jobs, outcomes, strict=True)
            trials = [trial for job, own in found for trial in others_in(job, own.calls, chosen.shares)]
        for outcome in pool.imap(run, trials):
            outcomes.append(outcome)
            print(f"{len(outcomes)} runs; {outcome}", file=sys.stderr)
    if not chosen.calls:
        print("Gain over dspy.SIMBA's by family; mean gain in log-odds of the true quality")
        print(table(outcomes))
    print(gains(outcomes))


if __name__ == "__main__":
    main()
