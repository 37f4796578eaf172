"""The optimizers that are compared, each given the same student, examples, LM and number of LM calls."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from simba_actors import Budget, Optimizer, OptimizerConfig


@dataclass(frozen=True)
class Task:
    """What a contender gets; `calls` is how many LM calls it may make, `sizes` are SIMBA's.

    The LM is the context's, and so is the one that writes instructions, unless there is a `prompt_model`.
    """

    student: dspy.Module
    metric: Callable[..., Any]
    trainset: list[dspy.Example]
    seed: int
    calls: int
    calls_a_rollout: int = 1
    sizes: dict[str, Any] = field(default_factory=dict[str, Any])
    num_threads: int = 1
    prompt_model: dspy.LM | None = None

    def number(self, *args: Any, **kwargs: Any) -> float:
        """Return the metric for optimizers that take no text from it."""
        return float(self.metric(*args, **kwargs))

    @property
    def rollouts(self) -> int:
        return self.calls // self.calls_a_rollout


def dspy_simba(task: Task) -> dspy.Module:
    simba = dspy.SIMBA(metric=task.metric, num_threads=task.num_threads, **task.sizes)
    return simba.compile(task.student, trainset=task.trainset, seed=task.seed)


def adaptive(task: Task) -> dspy.Module:
    """Run until all calls are spent, as the other contenders do."""
    return asyncio.run(optimized(task, policy="adaptive", budget=Budget(max_calls=task.calls), stop_when=None))


def adaptive_by_default(task: Task) -> dspy.Module:
    """Run until little is left to gain."""
    return asyncio.run(optimized(task, policy="adaptive", budget=Budget(max_calls=task.calls)))


def dspy_policy(task: Task) -> dspy.Module:
    return asyncio.run(optimized(task, policy="dspy"))


async def optimized(task: Task, **settings: Any) -> dspy.Module:
    """Return the program that `simba_actors` finds, with `settings` in addition to the task's sizes."""
    with tempfile.TemporaryDirectory() as directory:
        config = OptimizerConfig(
            student=task.student,
            metric=task.metric,
            trainset=task.trainset,
            store=Path(directory) / "simba.db",
            seed=task.seed,
            **{**task.sizes, **settings},
        )
        async with await Optimizer.start(config) as optimizer:
            return (await optimizer.result()).program


def gepa(task: Task) -> dspy.Module:
    def with_feedback(gold: Any, pred: Any, trace: Any = None, name: Any = None, of_name: Any = None) -> Any:
        found: Any = task.metric(gold, pred)
        score = float(found)
        right = ", ".join(str(value) for value in gold.labels().values())
        own = getattr(found, "feedback", "")
        return dspy.Prediction(score=score, feedback=f"Score {score:.2f}. The right answer is {right}. {own}".strip())

    middle = len(task.trainset) // 2
    optimizer = dspy.GEPA(
        metric=with_feedback,
        max_metric_calls=int(task.rollouts * 0.98),
        reflection_lm=task.prompt_model or dspy.settings.lm,
        num_threads=task.num_threads,
        seed=task.seed,
    )
    return optimizer.compile(task.student, trainset=task.trainset[:middle], valset=task.trainset[middle:])


def random_search(task: Task, max_labeled_demos: int = 0) -> dspy.Module:
    programs = max(1, task.rollouts // len(task.trainset) - 4)
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=task.number,
        max_bootstrapped_demos=task.sizes.get("max_demos", 4),
        max_labeled_demos=max_labeled_demos,
        num_candidate_programs=programs,
        num_threads=task.num_threads,
    )
    return optimizer.compile(task.student, trainset=task.trainset)


def mipro(task: Task, max_labeled_demos: int = 0) -> dspy.Module:
    minibatch = min(35, len(task.trainset) // 4)
    trials = max(2, int(task.rollouts * 0.9 / (minibatch + len(task.trainset) / 5)))
    optimizer = dspy.MIPROv2(
        metric=task.number,
        prompt_model=task.prompt_model,
        auto=None,
        num_candidates=6,
        num_threads=task.num_threads,
        seed=task.seed,
        max_bootstrapped_demos=task.sizes.get("max_demos", 4),
        max_labeled_demos=max_labeled_demos,
    )
    middle = len(task.trainset) // 4
    return optimizer.compile(
        task.student,
        trainset=task.trainset[:middle],
        valset=task.trainset[middle:],
        num_trials=trials,
        minibatch_size=minibatch,
    )


CONTENDERS: dict[str, Callable[[Task], dspy.Module]] = {
    "dspy.SIMBA": dspy_simba,
    "adaptive": adaptive,
    "adaptive, default": adaptive_by_default,
    'policy="dspy"': dspy_policy,
    "dspy.GEPA": gepa,
    "RandomSearch": random_search,
    "dspy.MIPROv2": mipro,
}
