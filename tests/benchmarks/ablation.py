"""The value of each part of the adaptive policy: the gain in planted worlds without it.

    python -m tests.benchmarks.ablation                # two worlds of each family, about 1,660 calls each
    python -m tests.benchmarks.ablation --seeds 1      # one of each

Every variant is run in the same worlds with the same number of calls. The last rows are other ways to search: Optuna's
TPE sampler chooses what to recombine in place of the policy's own model, and a bandit shifts effort between strategies.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from unittest import mock

from simba_actors.search.adaptive import combination, exploration, schedule, strategy_allocation
from simba_actors.search.adaptive import policy as adaptive_policy
from simba_actors.search.model import answer_order, priors
from tests.benchmarks.alternatives import with_a_bandit, with_optuna
from tests.benchmarks.quality import Job, Outcome, outcome_of, prepare_worker
from tests.benchmarks.worlds import EXAMPLES, FAMILIES, world_of

CALLS = 1660
"""About 35 % of what `dspy.SIMBA` takes at its defaults on 200 examples, for each predictor."""


def without_crediting() -> AbstractContextManager[Any]:
    """Judge programs by their own rollouts alone, as if nothing were known about their parts."""
    return mock.patch.multiple(priors, GENERAL=1e-3, SPECIFIC=1e-3, NEARBY=1e-3, BEYOND_PARTS=0.7)


def without_same_answer() -> AbstractContextManager[Any]:
    return mock.patch.multiple(priors, COMMON=(*priors.COMMON[:-2], 1e-3, 1e-3))


def without_answer_order() -> AbstractContextManager[Any]:
    return mock.patch.multiple(answer_order, MOST_COLUMNS=0)


def without_pruning() -> AbstractContextManager[Any]:
    """Fill combinations up to their caps, even with parts that don't pay."""
    return mock.patch.multiple(combination, LEAST_GAIN=-1.0)


def without_finals() -> AbstractContextManager[Any]:
    return mock.patch.multiple(schedule, FINAL_SHARE=0.0)


@contextlib.contextmanager
def without_draws() -> Generator[None]:
    """Use the most likely effects in place of draws."""
    with (
        mock.patch.multiple(exploration, BOLDNESS=0.0),
        mock.patch.multiple(adaptive_policy, CAUTIOUS_BOLDNESS=0.0),
    ):
        yield


def one_failure_a_rule() -> AbstractContextManager[Any]:
    """Write each rule from one failure, as in `dspy.SIMBA`."""
    return mock.patch.multiple(strategy_allocation, FAILURES_PER_RULE=1)


def without_recombination() -> AbstractContextManager[Any]:
    return mock.patch.multiple(adaptive_policy, RECOMBINE="not to be used")


def without_omissions() -> AbstractContextManager[Any]:
    return mock.patch.multiple(adaptive_policy, OMIT_SENTENCES="not to be used")


def with_steps_at_once(steps: int) -> AbstractContextManager[Any]:
    """Open one step at a time, in place of the two at the default concurrency."""
    return mock.patch.multiple(adaptive_policy, steps_at_once=lambda *_: steps)


VARIANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "adaptive": contextlib.nullcontext,
    "no crediting": without_crediting,
    "no same answer": without_same_answer,
    "no answer order": without_answer_order,
    "no pruning": without_pruning,
    "no finals": without_finals,
    "no draws": without_draws,
    "one failure a rule": one_failure_a_rule,
    "no recombination": without_recombination,
    "the seed as it is": without_omissions,
    "one step at once": partial(with_steps_at_once, 1),
    "five steps at once": partial(with_steps_at_once, 5),
    "Optuna's TPE": with_optuna,
    "a bandit": with_a_bandit,
}


def run(job: Job, calls: int = CALLS) -> list[Outcome]:
    """Return the gains of all variants in one world."""
    outcomes: list[Outcome] = []
    for name in job.contenders:
        with VARIANTS[name]():
            outcomes.append(outcome_of(job, name, "adaptive", calls * world_of(job.family, job.seed).stages))
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Mean gains by family, and the mean difference from the whole policy with its 95 % interval."""
    families = list(dict.fromkeys(outcome.family for outcome in outcomes))
    lines = ["".join([f"{'':<20}", *(f"{name:>13}" for name in families), f"{'all':>8}{'difference':>17}"])]
    whole = [outcome.gain for outcome in outcomes if outcome.contender == "adaptive"]
    for name in dict.fromkeys(outcome.contender for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.contender == name]
        cells = [statistics.mean(o.gain for o in own if o.family == family) for family in families]
        differences = [outcome.gain - gain for outcome, gain in zip(own, whole, strict=True)]
        half = 1.96 * statistics.stdev(differences) / len(differences) ** 0.5
        row = "".join(f"{cell:>13.2f}" for cell in cells)
        mean = statistics.mean(outcome.gain for outcome in own)
        lines.append(f"{name:<20}{row}{mean:>8.2f}{statistics.mean(differences):>10.2f} ± {half:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="worlds of each family")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), help="variants")
    parser.add_argument("--calls", type=int, default=CALLS, help="calls of each predictor")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    chosen = parser.parse_args()
    jobs = [
        Job(family, seed, EXAMPLES.get(family, 200), {}, tuple(chosen.only))
        for seed in range(chosen.seeds)
        for family in chosen.families
    ]
    outcomes: list[Outcome] = []
    with multiprocessing.get_context("spawn").Pool(chosen.processes, initializer=prepare_worker) as pool:
        for found in pool.imap(partial(run, calls=chosen.calls), jobs):
            outcomes += found
    print("Gain in log-odds of the true quality by family; difference from the whole policy")
    print(table(outcomes))


if __name__ == "__main__":
    main()
