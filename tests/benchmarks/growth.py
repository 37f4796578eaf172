"""How the adaptive policy's own CPU time and memory grow with the number of calls and of examples.

    python -m tests.benchmarks.growth            # all sizes of the bars, about five minutes
    python -m tests.benchmarks.growth --short    # 1,000 and 4,000 calls, under a minute
    python -m tests.benchmarks.growth --busy 2   # the first size alone, then beside two busy processes

The policy is driven as a run drives it, but each score is drawn at once from planted effects: no LM, no event loop, no
store. Each size has a process of its own. CPU is that of the whole process during the policy's calls, its BLAS threads
among them; memory is the peak above what was resident before the first call. The machine's slowness is the CPU time of
a fixed piece of such arithmetic, measured after each step, in relation to that on an idle core of the machine that the
README's figures are from: cores that other work is using take longer for the same.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.buckets import rank_buckets
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.examples import ExampleText
from simba_actors.search.model.parts import Part
from simba_actors.search.policy import Proposal, StepPlan, StepResult, TriedStep
from simba_actors.search.progress import Progress, progress_of
from simba_actors.search.rollout import JSON, Rollout, Usage
from simba_actors.search.settings import SearchSettings

P = ParamSpec("P")
R = TypeVar("R")

SIZES = ((1_000, 200), (4_000, 200), (16_000, 200), (64_000, 200), (8_000, 5_000), (8_000, 100_000))
"""Calls and examples of each size."""

BAR_MS = 0.4
"""Maximum CPU time of the policy for each call."""

IDLE_MS = 0.74
"""CPU milliseconds of `yardstick` on an idle core."""

ANSWERS, WORDS, WORDS_A_ROW = 6, 20_000, 150
STRATEGIES = ("append_a_rule", "append_a_demo", "append_labeled_demos", "merge_rules", "recombine")
MAX_DEMOS = 8


class World:
    """Examples with 1 KB of text and one of six answers, and planted effects of all parts of prompts."""

    def __init__(self, examples: int, seed: int) -> None:
        self.seed = seed
        draws = np.random.default_rng(seed)
        self.ease = draws.normal(-0.5, 1.0, examples)
        self.answer = draws.integers(0, ANSWERS, examples)
        words = np.array([f"word{n}" for n in range(WORDS)])
        self.rows = tuple(self._row(n, words, draws) for n in range(examples))
        self._effects: dict[str, tuple[float, frozenset[int]]] = {}

    def _row(self, number: int, words: Any, draws: np.random.Generator) -> ExampleText:
        """Return words drawn by Zipf's law, as in natural language."""
        chosen = np.minimum(draws.zipf(1.3, WORDS_A_ROW) - 1, WORDS - 1)
        label = f"answer{self.answer[number]}"
        return ExampleText(" ".join([*words[chosen], label]), {"answer": label})

    def chance(self, parts: Sequence[Part], example: int) -> float:
        """Return the probability that a program with these parts is right on the example."""
        log_odds = float(self.ease[example])
        answer = int(self.answer[example])
        counts = Counter[str]()
        for part in parts:
            everywhere, answers = self._effect(part)
            log_odds += everywhere + 0.6 * (answer in answers)
            counts[part.kind] += 1
        log_odds -= 0.05 * counts["demo"] ** 2 / 4 + 0.2 * max(0, counts["rule"] - 3) ** 2
        return 1 / (1 + math.exp(-log_odds))

    def quality(self, parts: Sequence[Part]) -> float:
        """Return the share of examples that a program with these parts gets right, from the first ones if there are
        many."""
        examples = min(len(self.rows), 1_000)
        return sum(self.chance(parts, n) for n in range(examples)) / examples

    def _effect(self, part: Part) -> tuple[float, frozenset[int]]:
        """Return what a part adds everywhere, and the answers that it helps with."""
        if part.part_id not in self._effects:
            draws = random.Random(f"{self.seed}{part.part_id}")
            if part.kind == "demo":
                found = draws.gauss(0.0, 0.2), frozenset({int(part.fields["answer"].removeprefix("answer"))})
            else:
                found = draws.gauss(0.0, 0.4), frozenset(draws.sample(range(ANSWERS), draws.randrange(3)))
            self._effects[part.part_id] = found
        return self._effects[part.part_id]

    def new_rule(self, number: int) -> Part:
        draws = random.Random(f"rule {number}")
        text = " ".join(f"word{int(draws.paretovariate(0.3)) % WORDS}" for _ in range(60))
        return Part(f"rule {number}", "self", "rule", text)

    def demo(self, example: int) -> Part:
        row = self.rows[example]
        return Part(f"demo {example}", "self", "demo", row.text, {"text": row.text, **row.labels})


class SimulatedPool:
    """A pool of programs that consist of parts only. See `simba_actors.search.policy.Pool`."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Part, ...]] = {0: ()}
        self._by_id: dict[str, Part] = {}

    def add(self, program: int, parts: Sequence[Part]) -> bool:
        """Add a program. Return whether it is new."""
        if tuple(parts) in self._known:
            return False
        self._known.add(tuple(parts))
        self.made[program] = tuple(parts)
        self._by_id.update((part.part_id, part) for part in parts)
        return True

    @cached_property
    def _known(self) -> set[tuple[Part, ...]]:
        return set(self.made.values())

    def named(self, part_ids: Sequence[str]) -> list[Part]:
        return [self._by_id[part_id] for part_id in part_ids]

    def programs(self) -> Sequence[int]:
        return sorted(self.made)

    def parts(self, program: int) -> tuple[Part, ...]:
        return self.made[program]

    def free_parts(self) -> tuple[Part, ...]:
        return ()

    def demos(self, program: int) -> int:
        return sum(part.kind == "demo" for part in self.made[program])


class SimulatedRun:
    """A run of the adaptive policy in a world, and the policy's CPU time by method."""

    def __init__(self, calls: int, world: World, seed: int, max_steps: int = 24) -> None:
        self.world, self.pool, self.evidence = world, SimulatedPool(), Evidence()
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self.longest: dict[str, float] = {}
        self.slowness: list[float] = []
        self._scores = random.Random(seed)
        self._calls, self._seed, self._max_steps = calls, seed, max_steps
        self._rules = 0
        self.progress: Progress | None = None

    def timed(self, name: str, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        started = time.process_time()
        try:
            return call(*args, **kwargs)
        finally:
            took = time.process_time() - started
            self.cpu[name] += took
            self.longest[name] = max(took, self.longest.get(name, 0.0))

    def result(self) -> list[tuple[int, float]]:
        """Run from start to end, and return the ranking."""
        policy = self.timed("initial_state", self._policy)
        state = self.timed("initial_state", policy.initial_state)
        for step in range(self._max_steps):
            plan = self.timed("open_step", policy.open_step, state, state, step, self.evidence, self.pool)
            if plan is None:
                break
            result = self._step(policy, state, plan)
            self.slowness.append(yardstick() / IDLE_MS)
            state = json.loads(json.dumps(result.state))
            self.progress = self.timed(
                "progress", progress_of, step, result.best, result.outlook, self.evidence, Usage(), 0.0, self.progress
            )
            self.timed("trend", getattr, self.progress, "trend")
        while more := self.timed("final_rollouts", policy.final_rollouts, state, self.evidence, self.pool):
            self.run(more)
        return self.timed("ranking", policy.ranking, state, self.evidence, self.pool)

    def _step(self, policy: AdaptivePolicy, state: JSON, plan: StepPlan) -> StepResult:
        scores = self.run(plan.rollouts)
        proposals = self.timed("proposals", policy.proposals, plan, rank_buckets(plan.batch, scores), 0, self.pool)
        candidates: list[int] = []
        for proposal in proposals:
            if self._apply(proposal):
                candidates.append(proposal.program)
                self.run(self.timed("evaluation", policy.evaluation, plan, proposal, self.pool))
        tried = TriedStep(plan, proposals, tuple(candidates))
        return self.timed("close_step", policy.close_step, state, tried, self.evidence, self.pool)

    def _policy(self) -> AdaptivePolicy:
        return AdaptivePolicy(
            SearchSettings(bsize=32, num_candidates=6, max_steps=self._max_steps, max_demos=MAX_DEMOS, seed=self._seed),
            train_examples=self.world.rows,
            rollouts=self._calls,
            strategies=STRATEGIES,
            predictors=1,
        )

    def run(self, rollouts: Sequence[Rollout]) -> list[tuple[int, float]]:
        """Return a pair of example and score for each rollout."""
        scores: list[tuple[int, float]] = []
        for rollout in rollouts:
            score = float(self._scores.random() < self.world.chance(self.pool.parts(rollout.program), rollout.example))
            self.evidence.add([Score(rollout.key, rollout.program, rollout.example, score, rollout.model)])
            scores.append((rollout.example, score))
        return scores

    def _apply(self, proposal: Proposal) -> bool:
        """Return whether the proposal makes a new program."""
        parts = self.pool.named(proposal.parts or ())
        strategy = proposal.strategies[0]
        if strategy == "append_a_rule":
            self._rules += 1
            parts.append(self.world.new_rule(self._rules))
        elif strategy == "merge_rules":
            self._rules += 1
            others = [part for part in parts if part.kind != "rule"]
            parts = [*others, self.world.new_rule(self._rules)]
        elif strategy != "recombine":
            parts += [self.world.demo(example) for example in proposal.examples]
        unique = list({part.part_id: part for part in parts}.values())
        demos = [part for part in unique if part.kind == "demo"][-MAX_DEMOS:]
        return self.pool.add(proposal.program, [*(part for part in unique if part.kind != "demo"), *demos])


def measured(calls: int, examples: int, seed: int) -> dict[str, Any]:
    """Return the policy's CPU time and peak memory in one run, and the quality of its winner."""
    world = World(examples, seed)
    run = SimulatedRun(calls, world, seed)
    before = resident()
    ranking = run.result()
    total = sum(run.cpu.values())
    return {
        "calls": len(run.evidence),
        "programs": len(run.pool.made),
        "parts": len({part.part_id for parts in run.pool.made.values() for part in parts}),
        "ms": 1_000 * total / len(run.evidence),
        "seconds": total,
        "slowness": sum(run.slowness) / len(run.slowness),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before,
        "gain": logit(world.quality(run.pool.parts(ranking[0][0]))) - logit(world.quality(())),
        "by_call": {name: round(1_000 * seconds / len(run.evidence), 4) for name, seconds in sorted(run.cpu.items())},
        "longest": {name: round(seconds, 3) for name, seconds in run.longest.items()},
    }


def yardstick() -> float:
    """Return the CPU milliseconds of a fixed piece of arithmetic like the policy's, once its data are cached."""
    draws = np.random.default_rng(0)
    square, wide = draws.standard_normal((64, 64)), draws.standard_normal((60, 128))
    took = 0.0
    for _ in range(2):
        started = time.process_time()
        for _ in range(20):
            found = [square @ square, np.tanh(wide), wide[:20] + wide[0], wide.mean(axis=1)]
            found += [row.sum() for row in wide[:10]]
            sorted({n: str(n) for n in range(30)})
        took = time.process_time() - started
    return 1_000 * took


def resident() -> float:
    """Return the process's memory in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def logit(share: float) -> float:
    return math.log(share / (1 - share))


@contextmanager
def busy(processes: int) -> Generator[None]:
    """Run this many busy processes beside the block."""
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in beside:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the two smallest sizes")
    parser.add_argument("--size", nargs=2, type=int, action="append", metavar=("CALLS", "EXAMPLES"), help="this size")
    parser.add_argument("--busy", type=int, default=0, help="busy processes to repeat the sizes beside")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = options.size or (SIZES[:2] if options.short else SIZES[:1] if options.busy else SIZES)
    if options.one:
        print(json.dumps(measured(sizes[0][0], sizes[0][1], options.seed)))
        return
    columns = f"{'programs':>10}{'parts':>7}{'ms a call':>11}{'slowness':>10}{'seconds':>9}{'peak MB':>9}{'gain':>7}"
    print(f"{'calls':>8}{'examples':>10}{'busy':>6}{columns}")
    for calls, examples in sizes:
        for processes in sorted({0, options.busy}):
            with busy(processes):
                report(examples, processes, in_own_process(calls, examples, options.seed))


def in_own_process(calls: int, examples: int, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.growth", "--one", "--size", str(calls), str(examples)]
    command += ["--seed", str(seed)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def report(examples: int, processes: int, found: dict[str, Any]) -> None:
    over = "" if found["ms"] <= BAR_MS else f"   over {BAR_MS}"
    print(
        f"{found['calls']:>8}{examples:>10}{processes:>6}{found['programs']:>10}{found['parts']:>7}"
        f"{found['ms']:>11.3f}{found['slowness']:>10.2f}{found['seconds']:>9.2f}{found['megabytes']:>9.0f}{found['gain']:>7.2f}{over}"
    )
    print(f"         ms a call {found['by_call']}, longest s {found['longest']}", flush=True)


if __name__ == "__main__":
    main()
