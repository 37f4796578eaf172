"""Estimate of a run's usage and time before it is started."""

from __future__ import annotations

import random
from dataclasses import dataclass

from simba_actors.config import OptimizerConfig
from simba_actors.config_checks import check_other_examples, check_whole
from simba_actors.held_out import Evaluation, evaluate
from simba_actors.hosting.policies import rollouts_expected
from simba_actors.observe.wording import duration, spent
from simba_actors.runtime.event_loop import running_loop
from simba_actors.runtime.threads import Threads
from simba_actors.search.adaptive.strategy_allocation import FAILURES_PER_RULE, MAKES_DEMOS, WITHOUT_BUCKETS
from simba_actors.search.rollout import Usage

QUESTIONS_PER_STEP = 2
"""Questions to the prompt model in a step of the adaptive policy."""

RUNS_IN_A_QUESTION = 2 * FAILURES_PER_RULE
"""Runs of the student that a question shows: the worse and the better one of each example."""

WAITS_PER_STEP = 3
"""Times that a step waits for its slowest call: for its samples, its rules, and the scores of its candidates."""


@dataclass(frozen=True)
class Estimate:
    """What a whole run would take, as returned by `Optimizer.estimate`.

    print(estimate)  # at most 2,912 rollouts: 2,960 calls, 712,000 tokens, $0.1200, 4:10; estimated from 8

    A run takes less if `stop_when` ends it, as it does by default once little is left to gain.
    """

    rollouts: int
    """Rollouts of the whole run, at most."""
    usage: Usage
    """Calls, tokens and cost of the whole run, within its budget. It leaves out that rules and demos make prompts
    longer during the run, usually by up to half."""
    seconds: float
    """Time of the whole run in seconds, if the endpoint accepts `max_concurrency` calls at a time."""
    sample: Evaluation
    """The rollouts of the student that the estimate is made from."""

    def __str__(self) -> str:
        return (
            f"at most {self.rollouts:,} rollouts: {spent(self.usage)}, {duration(self.seconds)}; "
            f"estimated from {len(self.sample.results)}"
        )


async def estimate(config: OptimizerConfig, *, rollouts: int = 8) -> Estimate:
    """Run the student on a few examples, and return what the run that `config` describes would take.

    See `Optimizer.estimate`.
    """
    running_loop("Optimizer.estimate")
    check_whole("rollouts", rollouts, least=1)
    threads = Threads()
    try:
        await threads.run(lambda: check_other_examples(config.student, config.trainset, config.valset))
    finally:
        await threads.close()
    chosen = random.Random(config.seed).sample(range(len(config.trainset)), min(rollouts, len(config.trainset)))  # noqa: S311
    sample = await evaluate(
        config.student,
        [config.trainset[n] for n in chosen],
        config.metric,
        lm=config.lm,
        objectives=config.objectives,
        governor=config.governor,
        max_concurrency=config.max_concurrency,
        rollout_timeout=config.rollout_timeout,
        on_metric_error=config.on_metric_error,
    )
    expected, questions, budget = rollouts_expected(config), _questions(config), config.budget
    per_rollout = 1 / len(sample.results)
    usage = _usage(sample)
    whole = usage * (expected * per_rollout) + _without_calls(usage * (questions * RUNS_IN_A_QUESTION * per_rollout))
    calls = whole.calls + questions
    share = min(
        1.0,
        _share(budget.max_calls, calls),
        _share(budget.max_tokens, whole.tokens),
        _share(budget.max_cost, whole.cost),
    )
    mean_seconds = sum(result.seconds for result in sample.results) * per_rollout
    waits = WAITS_PER_STEP * config.steps * mean_seconds
    seconds = max(expected * mean_seconds / config.max_concurrency, waits) * share
    whole = Usage(calls, whole.prompt_tokens, whole.completion_tokens, whole.cost) * share
    return Estimate(expected, whole, min(seconds, budget.max_seconds or seconds), sample)


def _usage(sample: Evaluation) -> Usage:
    """Return the usage of the sample without a cache: a call that the cache answered takes what the others took."""
    called = max(sample.usage.calls, sum(len(result.trace) for result in sample.results))
    if sample.usage.calls == 0:
        return Usage(called, None, None, None)
    return sample.usage * (called / sample.usage.calls)


def _without_calls(usage: Usage) -> Usage:
    return Usage(0, usage.prompt_tokens, usage.completion_tokens, usage.cost)


def _questions(config: OptimizerConfig) -> int:
    """Return how many questions to the prompt model the whole run asks."""
    names = [strategy.name for strategy in config.chosen_strategies()]
    writers = [name for name in names if name not in (*MAKES_DEMOS, *WITHOUT_BUCKETS)]
    if config.policy == "adaptive":
        return config.steps * QUESTIONS_PER_STEP if writers else 0
    return config.steps * (config.num_candidates + 1) * len(writers) // len(names)


def _share(cap: float | None, amount: float | None) -> float:
    return 1.0 if cap is None or not amount else cap / amount
