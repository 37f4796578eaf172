"""Executors: run a configuration of the student on an example with a model, and return the trajectory."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypedDict, Unpack, cast, runtime_checkable

import dspy

from simba_actors.dspy_compat.default_adapter import adapter_settings, honour_default_adapters
from simba_actors.dspy_compat.model_facts import remember_prices
from simba_actors.dspy_compat.predictor_names import PredictorNames
from simba_actors.dspy_compat.settings import inherited_settings, own_trace
from simba_actors.errors import (
    InfrastructureError,
    InterpreterError,
    LMUnavailableError,
    MetricError,
    RolloutTimeoutError,
)
from simba_actors.evaluation.binding import BoundProgram, Programs, StudentCopy
from simba_actors.evaluation.scoring import MetricResult, Scorer
from simba_actors.lm.failures import causes, infrastructure_cause, is_exhaustion
from simba_actors.lm.governed_lm import Twins, govern_while_alive
from simba_actors.lm.governor import BlockingCallError, Caller, Fault, Governor
from simba_actors.lm.rollout_context import SETTING, Deadline, RolloutContext
from simba_actors.lm.secrets import Secrets
from simba_actors.lm.usage import Meter
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.copying import copied_example, copied_value
from simba_actors.programs.entry_points import runs_async
from simba_actors.programs.values import json_fields
from simba_actors.runtime.exception_isolation import isolated, raised_by_signal_handler
from simba_actors.runtime.threads import Threads
from simba_actors.search.objectives import Objectives
from simba_actors.search.rollout import JSON, ModelSpec, Outcome, Split, TraceStep, Trajectory

ATTEMPTS = 3
"""Maximum number of attempts at a rollout, besides the governor's attempts at each LM call."""

SPLIT_NAMES: Mapping[Split, str] = {"train": "trainset", "val": "valset"}
"""Names of the lists of examples by split, for error messages."""

HISTORY_KEPT = 8
"""Maximum number of entries in the history of each copied module and LM. DSPy's 10,000 would fill the memory."""


@dataclass(frozen=True, slots=True)
class RolloutTask:
    """One rollout to run, as plain data."""

    configuration: Configuration
    example: int
    """Index in `split`."""
    model: ModelSpec = ModelSpec()
    split: Split = "train"


@runtime_checkable
class Executor(Protocol):
    """Runs rollouts. Tasks and trajectories are plain data, so an executor may be in another process or machine."""

    async def run(self, task: RolloutTask) -> Trajectory:
        """Run one rollout and return its trajectory.

        Raises:
            InfrastructureError: An LM could not be reached, or did not answer in time.
            MetricError: The metric raised, or returned something that is not a number.
        """
        ...

    async def try_metric(self) -> None:
        """Try the metric before any money is spent.

        Raises:
            MetricError: It can't return a number for any prediction.
        """
        ...

    async def close(self) -> None:
        """Release what the executor holds outside of this process. It may be used again."""
        ...


class ExecutorArguments(TypedDict):
    """The arguments with which a run makes its executor; `LocalExecutor` explains them."""

    student: dspy.Module
    space: ConfigurationSpace
    examples: Mapping[Split, Sequence[dspy.Example]]
    metric: Callable[..., Any]
    lms: Mapping[str, Any]
    governor: Governor
    caller: Caller
    threads: Threads
    objectives: Objectives | None
    rollout_timeout: float
    on_metric_error: Literal["stop", "score 0"]


class ExecutorFactory(Protocol):
    """Makes the executor of a run: a setting such as `RayExecutor(workers=8)`."""

    def __call__(self, **arguments: Unpack[ExecutorArguments]) -> Executor:
        """Return an executor."""
        ...


class LocalExecutor:
    """Runs rollouts in this process, on its event loop.

        executor = LocalExecutor(student=student, space=space, examples={"train": trainset}, metric=metric,
                                 lms={"student": lm}, governor=shared_governor())
        trajectory = await executor.run(RolloutTask(space.extract(student), example=0))

    Rollouts run under the `dspy.settings` that are current where the executor is made.

    Args:
        student: Run by `acall` where its `aforward` is nearer than its `forward`, otherwise in a thread.
        space: The student's.
        examples: The examples of each split.
        split_names: What the user calls each split, for error messages.
        metric, objectives: See `OptimizerConfig`.
        lms: The run's LMs by name. Predictors without an LM of their own use "student".
        governor: Sends all LM calls of the rollouts.
        caller: Hooks for the LM calls of the rollouts; see `Caller`.
        threads: Runs students and metrics that block.
        rollout_timeout: Seconds that a rollout may take. Waiting for an endpoint does not count.
        on_metric_error: Whether a metric that fails ends the run, or makes the rollout a program failure.
        clock: Returns seconds, to time rollouts.
        copy: The copy of the student that rollouts are made from. Made here if missing, which blocks.
    """

    def __init__(
        self,
        *,
        student: dspy.Module,
        space: ConfigurationSpace,
        examples: Mapping[Split, Sequence[dspy.Example]],
        split_names: Mapping[Split, str] = SPLIT_NAMES,
        metric: Callable[..., Any],
        lms: Mapping[str, Any],
        governor: Governor,
        caller: Caller | None = None,
        threads: Threads | None = None,
        objectives: Objectives | None = None,
        rollout_timeout: float = 300.0,
        on_metric_error: Literal["stop", "score 0"] = "stop",
        clock: Callable[[], float] = time.perf_counter,
        copy: StudentCopy | None = None,
    ) -> None:
        threads = threads or Threads()
        self._examples, self._split_names = examples, split_names
        self._governor = governor
        self._rollout_timeout = rollout_timeout
        self._on_metric_error = on_metric_error
        self._clock = clock
        self._threads = threads
        self._scorer = Scorer(metric, threads, objectives, governor.secrets)
        self._runs_async = runs_async(student)
        self._caller = caller = caller or Caller()
        self._make_twins = partial(Twins, governor, caller, threads)
        self._twins: Twins | None = None
        self._programs = Programs(copy or StudentCopy.of(student), space, lms, governor, caller, threads)
        settings: Any = dspy.settings
        self._settings = {
            **inherited_settings(),
            "lm": self._programs.default_lm,
            **adapter_settings(settings.adapter),
            "max_history_size": min(settings.max_history_size, HISTORY_KEPT),
            "disable_history": False,
        }
        self._known_labels: dict[tuple[Split, int], dict[str, JSON]] = {}
        self._keeps_history = not settings.disable_history

    async def run(self, task: RolloutTask) -> Trajectory:
        """Run one rollout and return its trajectory.

        Raises:
            LMAccessError: An LM refused the key, the account or the model's name.
            LMUnavailableError: An LM did not answer, or answered only with faults, until its grace period was over.
            InterpreterError: The student runs code, and its interpreter can't run.
            RolloutTimeoutError: The rollout took longer than `rollout_timeout`, each of `ATTEMPTS` times.
            MetricError: The metric raised, or returned something that is not a number.
        """
        meter = Meter()
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._run_once(task, meter)
            except RolloutTimeoutError as error:
                if attempt == ATTEMPTS:
                    raise
                if error.endpoint is not None and self._caller.on_fault is not None:
                    late = f"it did not answer within rollout_timeout={self._rollout_timeout:g} s"
                    self._caller.on_fault(Fault(error.endpoint, late, attempt, 0.0))
            except (_UngovernedError, BlockingCallError) as error:
                if attempt == ATTEMPTS:
                    reason = f"{error}. Resume when that is fixed"
                    raise LMUnavailableError(reason, endpoint=error.endpoint) from error
                await self._governor.back_off(attempt)

    async def try_metric(self) -> None:
        """Call the metric on the first training example, with its labels as the prediction.

        A failure because a field is missing does not count, since labels are not a whole prediction. No LM is called,
        so a metric that asks a judge is first tried by a rollout.

        Raises:
            MetricError: The metric can't return a number for any prediction.
        """
        self._govern()  # Without it, the metric's LM calls would not be refused.
        rollout = RolloutContext(Meter(), govern=_refuse)
        with dspy.context(**{**self._settings, "lm": None, SETTING: rollout}), rollout:
            async with Deadline(self._rollout_timeout):
                await self._scorer.try_on(f"{self._split_names['train']}[0]", self._examples["train"][0])

    async def close(self) -> None:
        """Stop governing LMs that code calls directly, as soon as no thread of a rollout is left."""
        self._twins = None

    def _govern(self) -> Twins:
        """Return what governs LMs that code calls directly. DSPy's calls are routed to it for as long as it is used."""
        if self._twins is None:
            self._twins = self._make_twins()
            govern_while_alive(self._twins)
            weakref.finalize(self._twins, remember_prices())
            weakref.finalize(self._twins, honour_default_adapters())
        return self._twins

    async def _run_once(self, task: RolloutTask, meter: Meter) -> Trajectory:
        await self._governor.scheduler.begin()
        example = self._examples[task.split][task.example]
        program = await self._bound(task)
        started = self._clock()
        deadline = Deadline(self._rollout_timeout)
        rollout = RolloutContext(meter, deadline, keeps_history=self._keeps_history, govern=self._govern())
        trace: list[Any] = []
        ended: _Ended | None = None
        try:
            with self._context(trace, rollout), rollout:
                async with deadline:
                    ended = await self._run_and_score(
                        program, example, f"{self._split_names[task.split]}[{task.example}]", trace, rollout
                    )
        except Exception as error:
            if rollout.stopped_by is not None:
                raise rollout.stopped_by from error
            raise
        finally:
            rollout.end()
        if rollout.stopped_by is not None:
            # The student or the metric continued without the LM's answer, so the outcome is not evidence.
            raise rollout.stopped_by
        if ended is None:
            raise RolloutTimeoutError(
                f"a rollout took longer than rollout_timeout={self._rollout_timeout:g} s, {ATTEMPTS} times in a row: "
                f"{rollout.hung_at or 'an LM or the student'} hangs, or the limit is too low",
                endpoint=rollout.hung_at,
            )
        return ended.trajectory(meter, self._clock() - started, self._labels(task.split, task.example))

    async def _bound(self, task: RolloutTask) -> BoundProgram:
        try:
            return await self._programs.bound(task.configuration, task.model)
        except Exception as error:
            raise_if_infrastructure(error, self._governor.secrets)  # The process can't start a thread, for instance.
            raise

    def _labels(self, split: Split, index: int) -> dict[str, JSON]:
        """Return an example's labels as JSON. They are kept, since an example runs many times."""
        if (split, index) not in self._known_labels:
            self._known_labels[split, index] = json_fields(cast("Any", self._examples[split][index]).labels())
        return self._known_labels[split, index]

    def _context(self, trace: list[Any], rollout: RolloutContext) -> AbstractContextManager[None]:
        return dspy.context(**{**self._settings, **own_trace(trace), SETTING: rollout})

    async def _run_and_score(
        self, program: BoundProgram, example: dspy.Example, where: str, trace: list[Any], rollout: RolloutContext
    ) -> _Ended:
        """Run the student and, unless it fails, call the metric."""
        inputs = {name: copied_value(value) for name, value in cast("Any", example.inputs()).items()}
        try:
            prediction = await isolated(self._call(program.module, inputs))
        except Exception as error:  # noqa: BLE001 - the program's failure, unless the infrastructure is behind it
            raise_if_infrastructure(error, self._governor.secrets)
            return _Ended(
                trace_steps(trace, program.names), None, None, self._governor.secrets.describe(error), rollout.cut_off
            )
        # Taken before the metric runs, since it may call predictors and change its arguments.
        steps, fields, cut_off = trace_steps(trace, program.names), json_fields(prediction), rollout.cut_off
        try:
            result = await self._scorer.score(where, copied_example(example), prediction)
        except MetricError as error:
            if self._on_metric_error == "stop":
                raise
            return _Ended(steps, fields, None, f"MetricError: {error}", cut_off)
        return _Ended(steps, fields, result, None, cut_off)

    async def _call(self, module: Any, inputs: dict[str, Any]) -> Any:
        if self._runs_async:
            return await module.acall(**inputs)
        return await self._threads.run(partial(module, **inputs))


def _refuse(lm: Any) -> Any:
    raise RuntimeError(f"{lm.model} is not called while the metric is tried")


class _UngovernedError(InfrastructureError):
    """Something other than a governed LM could not be reached, or is used up."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a rollout ended: with a result of the metric, or with an error."""

    steps: tuple[TraceStep, ...]
    prediction: dict[str, JSON] | None
    result: MetricResult | None
    error: str | None
    cut_off: bool

    def trajectory(self, meter: Meter, seconds: float, expected: dict[str, JSON]) -> Trajectory:
        result = self.result
        return Trajectory(
            outcome=Outcome.SCORED if result is not None else Outcome.PROGRAM_FAILURE,
            score=result.score if result is not None else 0.0,
            prediction=self.prediction,
            trace=self.steps,
            feedback=result.feedback if result is not None else {},
            usage=meter.total,
            seconds=seconds,
            error=self.error,
            cut_off=self.cut_off,
            expected=expected,
        )


def raise_if_infrastructure(error: Exception, secrets: Secrets) -> None:
    """Raise an InfrastructureError, without `secrets`, if that is behind an error that the student raised."""
    for cause in causes(error):
        # DSPy: "a bare instance indicates a failure that submitted code cannot repair". Deno is missing, for instance.
        if isinstance(cause, dspy.CodeInterpreterError) and not isinstance(cause, dspy.CodeExecutionError):
            raise InterpreterError(
                f"the student's code interpreter can't run: {secrets.describe(cause)} Then resume."
            ) from error
    if raised_by_signal_handler(error):  # For example by a time limit of the host.
        raise _UngovernedError(f"a signal handler interrupted the student: {secrets.describe(error)}") from error
    cause = infrastructure_cause(error)
    if isinstance(cause, InfrastructureError):
        raise cause
    if cause is None:
        return
    failed = "this machine has run out of something" if is_exhaustion(cause) else "an LM that no rollout governs failed"
    raise _UngovernedError(f"{failed}: {secrets.describe(cause)}") from error


def trace_steps(trace: list[Any], names: PredictorNames) -> tuple[TraceStep, ...]:
    """Return the calls of the predictors that are part of the configuration."""
    called = [(names.of(predictor), inputs, outputs) for predictor, inputs, outputs in list(trace)]
    return tuple(
        TraceStep(name, json_fields(inputs), json_fields(outputs))
        for name, inputs, outputs in called
        if name is not None
    )
