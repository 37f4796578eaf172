"""The score of a program on examples that its optimizer did not see."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import anyio
import dspy

from simba_actors.config import Metric, OnMetricError
from simba_actors.config_checks import (
    check_examples,
    check_governor,
    check_lm,
    check_method,
    check_metric,
    check_number,
    check_objectives,
    check_on_metric_error,
    check_whole,
)
from simba_actors.dspy_compat import check_dspy
from simba_actors.errors import ConfigError, NoPredictorsError
from simba_actors.evaluation.binding import StudentCopy
from simba_actors.evaluation.executor import LocalExecutor, RolloutTask
from simba_actors.hosting.lms import student_lm
from simba_actors.live import LiveProgram
from simba_actors.lm.access import endpoint_name
from simba_actors.lm.governor import Governor, shared_governor
from simba_actors.observe.notebook import shown as html
from simba_actors.observe.wording import duration, spent
from simba_actors.programs import ConfigurationSpace
from simba_actors.programs.copying import check_module
from simba_actors.runtime.event_loop import running_loop
from simba_actors.runtime.extras import import_extra
from simba_actors.runtime.threads import Threads
from simba_actors.search.objectives import Objectives
from simba_actors.search.rollout import STUDENT_LM, Outcome, Trajectory, Usage
from simba_actors.search.statistics.intervals import mean_interval


@dataclass(frozen=True)
class Evaluation:
    """The score of a program on some examples, as returned by `evaluate`.

    print(evaluation)  # 0.875 (0.739 to 0.945) on 40 examples; 40 calls, 9,622 tokens, $0.0031, 4.2 s
    for n in evaluation.failures:
        print(examples[n], evaluation.results[n].error)
    """

    score: float
    """The mean score. A program failure counts 0."""
    low: float
    """Lower end of the 95 % interval of `score`: Wilson's for scores from 0 to 1, otherwise the normal one."""
    high: float
    """Upper end of the 95 % interval of `score`."""
    results: tuple[Trajectory, ...]
    """The trajectory of each example, in order: score, prediction, trace, feedback, error."""
    scores: dict[str, float] | None
    """The mean score by objective; None without `objectives`."""
    usage: Usage
    """LM usage of all examples. Cached replies are not counted as calls."""
    seconds: float
    """Wall time in seconds."""

    @property
    def failures(self) -> tuple[int, ...]:
        """Indexes of the examples on which the program raised an error."""
        return tuple(n for n, result in enumerate(self.results) if result.outcome is Outcome.PROGRAM_FAILURE)

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame with a row for each example.

        Its columns are score, error and seconds, then the fields of the prediction, the labels and the feedback, as
        "prediction.answer", "expected.answer" and "feedback.feedback".

        Raises:
            MissingExtraError: pandas is not installed; the extra `dataframe` installs it.
        """
        pandas = import_extra("pandas", extra="dataframe", user="to_dataframe")
        return pandas.DataFrame([_row(result) for result in self.results])

    def __str__(self) -> str:
        failed = f", {len(self.failures)} of which failed" if self.failures else ""
        return (
            f"{self.score:.3f} ({self.low:.3f} to {self.high:.3f}) on {len(self.results):,} examples{failed}; "
            f"{spent(self.usage)}, {duration(self.seconds)}"
        )

    def _repr_html_(self) -> str:
        return f"<p><b>{self.score:.3f}</b> {html(str(self).removeprefix(f'{self.score:.3f} '))}</p>"

    def __repr__(self) -> str:
        return f"Evaluation(score={self.score:.3f}, low={self.low:.3f}, high={self.high:.3f}, n={len(self.results)})"


async def evaluate(
    program: dspy.Module,
    examples: Sequence[dspy.Example],
    metric: Metric,
    *,
    lm: dspy.BaseLM | None = None,
    objectives: Objectives | None = None,
    governor: Governor | None = None,
    max_concurrency: int = 32,
    rollout_timeout: float = 300.0,
    on_metric_error: OnMetricError = "stop",
) -> Evaluation:
    """Run `program` once on each of `examples`, and return its mean score with a 95 % interval.

        evaluation = await evaluate(result.program, heldout, metric)
        print(evaluation)

    Rollouts run like those of an optimizer: the governor limits and retries LM calls, a program's own error scores 0,
    and an infrastructure failure is never a score. Nothing is stored. `program` is not changed.

    Args:
        program: The program to run, such as the student or `result.program`.
        examples: At least one, with their inputs marked by `with_inputs`.
        metric: As in `OptimizerConfig`.
        lm: LM of the predictors that have none of their own; by default `dspy.settings.lm`.
        objectives: As in `OptimizerConfig`, if the metric returns several scores.
        governor: Sends the LM calls; by default the one that all optimizers of this event loop share.
        max_concurrency: Maximum number of examples that run at the same time.
        rollout_timeout: Seconds that the program may take for an example.
        on_metric_error: Whether a metric that fails ends the evaluation ("stop"), or scores 0 ("score 0").

    Raises:
        ConfigError: An argument is invalid. The message says which one, and what to pass instead.
        NoLMError: No LM is set for the program.
        MetricError: The metric raised, or returned no score.
        LMAccessError: An LM refused the key, the account or the model's name.
        LMUnavailableError: An LM did not answer until the governor's grace period was over.
        RolloutTimeoutError: An example took longer than `rollout_timeout`, several times.
    """
    running_loop("evaluate")
    check_lm("lm", lm)
    check_objectives(objectives)
    check_governor(governor)
    check_whole("max_concurrency", max_concurrency, least=1)
    check_number("rollout_timeout", rollout_timeout, above=0.0)
    check_on_metric_error(on_metric_error)
    governor, threads, started = governor or shared_governor(), Threads(), time.perf_counter()
    try:
        space, copy = await threads.run(lambda: _prepared(program, examples, metric))
        default_lm = student_lm(program, lm)
        governor.endpoint(endpoint_name(default_lm)).window.expect(max_concurrency)
        executor = LocalExecutor(
            student=program,
            space=space,
            examples={"train": examples},
            split_names={"train": "examples"},
            metric=metric,
            lms={STUDENT_LM: default_lm},
            governor=governor,
            threads=threads,
            objectives=objectives,
            rollout_timeout=rollout_timeout,
            on_metric_error=on_metric_error,
            copy=copy,
        )
        await executor.try_metric()
        configuration = space.extract(program)
        tasks = (RolloutTask(configuration, n) for n in range(len(examples)))
        results = await _run_all(executor, tasks, min(max_concurrency, len(examples)))
    finally:
        with anyio.CancelScope(shield=True):
            await threads.close()
    return _evaluation([results[n] for n in range(len(examples))], objectives, time.perf_counter() - started)


async def _run_all(executor: LocalExecutor, tasks: Iterator[RolloutTask], workers: int) -> dict[int, Trajectory]:
    """Return the trajectory of each task by its example. Raise the first error, and cancel the other rollouts."""
    results: dict[int, Trajectory] = {}
    errors: list[Exception] = []

    async def work() -> None:
        for task in tasks:
            try:
                results[task.example] = await executor.run(task)
            except Exception as error:  # noqa: BLE001 - raised below, without the group that anyio would wrap it in
                errors.append(error)
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(workers):
            group.start_soon(work)
    if errors:
        raise errors[0]
    return results


def _evaluation(results: Sequence[Trajectory], objectives: Objectives | None, seconds: float) -> Evaluation:
    scores = [float(result.score) for result in results]
    low, high = mean_interval(len(scores), sum(scores), sum(score * score for score in scores))
    by_objective: dict[str, float] | None = None
    if objectives is not None:
        by_objective = {
            name: sum(float(cast("float", result.feedback.get(name, 0.0))) for result in results) / len(results)
            for name in objectives.names
        }
    usage = sum((result.usage for result in results), start=Usage())
    return Evaluation(sum(scores) / len(scores), low, high, tuple(results), by_objective, usage, seconds)


def _check(program: dspy.Module, examples: Sequence[dspy.Example], metric: Metric) -> None:
    check_module(program)
    if isinstance(program, LiveProgram):
        raise ConfigError("program is a LiveProgram, which runs what is published: pass live.student instead")
    check_method(program)
    for rest in (False, True):
        check_examples(program, "examples", examples, rest=rest)
    if not examples:
        raise ConfigError("examples is empty: pass at least one example to run the program on")
    check_metric(metric)


def _prepared(
    program: dspy.Module, examples: Sequence[dspy.Example], metric: Metric
) -> tuple[ConfigurationSpace, StudentCopy]:
    """Check what is evaluated, and return the space and a copy of the program."""
    check_dspy()
    _check(program, examples, metric)
    return _space(program), StudentCopy.of(program)


def _space(program: dspy.Module) -> ConfigurationSpace:
    try:
        return ConfigurationSpace.from_module(program)
    except NoPredictorsError:  # A program whose predictors are all frozen, or that has none, can be evaluated, too.
        return ConfigurationSpace({})


def _row(result: Trajectory) -> dict[str, Any]:
    groups = {"prediction": result.prediction or {}, "expected": result.expected, "feedback": result.feedback}
    fields = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
    return {"score": float(result.score), "error": result.error, "seconds": result.seconds, **fields}
