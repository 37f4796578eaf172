"""A drop-in replacement for `dspy.SIMBA` that runs an Optimizer: change one import."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import dspy
from dspy.teleprompt.teleprompt import Teleprompter
from dspy.utils.callback import with_callbacks  # pyright: ignore[reportUnknownVariableType]

from simba_actors.class_help import suggests_names
from simba_actors.config import Metric, OnMetricError, OptimizerConfig, PolicyName
from simba_actors.errors import RunningLoopError
from simba_actors.lm.budget import Budget
from simba_actors.optimizer import Optimizer
from simba_actors.runtime.event_loop import is_in_trio, running_loop_or_none
from simba_actors.search.stopping import DEFAULT_STOP, StopWhen

Student = TypeVar("Student", bound=dspy.Module)
Method = TypeVar("Method")


def _with_compile_callbacks(method: Method) -> Method:
    """Make `method` call DSPy's `on_compile_start` and `on_compile_end`, as DSPy does for methods named `compile`."""
    return cast("Any", with_callbacks)(method)


@suggests_names(within={"budget": Budget}, named={"max_concurrency": "num_threads", "teacher_lm": "teacher_settings"})
class SIMBA(Teleprompter):
    """A drop-in replacement for `dspy.SIMBA`.

        from simba_actors import SIMBA

        better = SIMBA(metric=metric, bsize=16).compile(student, trainset=trainset, seed=0)
        better = await SIMBA(metric=metric, bsize=16).acompile(student, trainset=trainset)   # in a running loop

    The result is a copy of the student with the best configuration. As with `dspy.SIMBA`, it has the attributes
    `candidate_programs`, a list of `{"score", "program"}` with the best first, and `trial_logs`, a dict by step.

    Args:
        metric: `metric(example, prediction)` or `metric(example, prediction, trace)`; see `simba_actors.Metric`.
        teacher_settings: `{"lm": …}` with the LM that replaces the first copy of the student's LM for sampling.
        max_steps: Maximum number of steps; by default 8, or 24 with `policy="adaptive"`.
        num_threads: Maximum number of rollouts in flight; by default `dspy.settings.num_threads`.
        store: Path of the SQLite file that keeps the run, so that it continues after a crash. By default a temporary
            file.
        on_metric_error: What happens if the metric raises: "stop", the default, raises MetricError; "score 0" scores
            the rollout 0, as `dspy.SIMBA` does.
        lm, optimize, rollout_timeout, stop_when, budget, policy, progress: As in `OptimizerConfig`.

    The other arguments have the same meaning as in `dspy.SIMBA`.
    """

    def __init__(
        self,
        *,
        metric: Metric,
        bsize: int = 32,
        num_candidates: int = 6,
        max_steps: int | None = None,
        max_demos: int = 4,
        prompt_model: dspy.BaseLM | None = None,
        teacher_settings: dict[str, Any] | None = None,
        demo_input_field_maxlen: int = 100_000,
        num_threads: int | None = None,
        temperature_for_sampling: float = 0.2,
        temperature_for_candidates: float = 0.2,
        lm: dspy.BaseLM | None = None,
        rollout_timeout: float = 300.0,
        on_metric_error: OnMetricError = "stop",
        optimize: Sequence[str] | None = None,
        stop_when: StopWhen | None = DEFAULT_STOP,
        policy: PolicyName = "dspy",
        store: str | Path | None = None,
        budget: Budget | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__()
        self.metric = metric
        self.bsize = bsize
        self.num_candidates = num_candidates
        self.max_steps = max_steps
        self.max_demos = max_demos
        self.prompt_model = prompt_model
        self.teacher_settings = teacher_settings
        self.demo_input_field_maxlen = demo_input_field_maxlen
        self.num_threads = num_threads
        self.temperature_for_sampling = temperature_for_sampling
        self.temperature_for_candidates = temperature_for_candidates
        self.lm = lm
        self.rollout_timeout = rollout_timeout
        self.on_metric_error: OnMetricError = on_metric_error
        self.optimize = optimize
        self.stop_when = stop_when
        self.policy: PolicyName = policy
        self.store = store
        self.budget = budget
        self.progress = progress

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride] - dspy.SIMBA narrows it in the same way
        self,
        student: Student,
        *,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None = None,
        seed: int = 0,
    ) -> Student:
        """Return the optimized student. Block until it is found, running an event loop meanwhile.

        Args:
            student: The program to improve. It is not changed.
            trainset: Examples to learn from.
            valset: Examples to choose the winner on; by default the trainset. For `policy="adaptive"` only.
            seed: Seed of all random draws.

        Raises:
            RunningLoopError: An event loop is running in this thread, and this call would block it.
            RunPausedError: An LM refused a call or could not be reached; the message says why. With a `store`, the
                next call continues the run.
            MetricError: The metric raised, or returned no score. With a `store`, the next call continues the run.
            NoLMError: No LM is set for the student.
            ConfigError: A value is invalid; see `OptimizerConfig`.
        """
        if is_in_trio():
            raise RunningLoopError(
                "SIMBA.compile was called in a task of trio's, which it would block: call it in a thread, as "
                "`await trio.to_thread.run_sync(…)` does"
            )
        if running_loop_or_none() is not None:
            raise RunningLoopError(
                "SIMBA.compile was called inside a running event loop, which it would block: "
                "use `await SIMBA(…).acompile(student, trainset=…)` here"
            )
        return asyncio.run(self._compile(student, trainset, valset, seed))

    @_with_compile_callbacks
    async def acompile(
        self,
        student: Student,
        *,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None = None,
        seed: int = 0,
    ) -> Student:
        """Return the optimized student. Like `compile`, but runs in the current event loop.

        Cancellation stops the run. With a `store`, the next call continues it. The arguments and the other errors are
        those of `compile`.
        """
        return await self._compile(student, trainset, valset, seed)

    async def _compile(
        self, student: Student, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None, seed: int
    ) -> Student:
        if self.store is not None:
            return await self._optimize(self._config(student, trainset, valset or (), seed, Path(self.store)))
        with tempfile.TemporaryDirectory(prefix="simba_actors-") as directory:
            store = Path(directory) / "simba.db"
            return await self._optimize(self._config(student, trainset, valset or (), seed, store))

    def _config(
        self,
        student: dspy.Module,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example],
        seed: int,
        store: Path,
    ) -> OptimizerConfig:
        settings: Any = dspy.settings
        return OptimizerConfig(
            student=student,
            metric=self.metric,
            trainset=trainset,
            valset=valset,
            store=store,
            lm=self.lm,
            prompt_model=self.prompt_model,
            teacher_lm=self._teacher_lm(),
            bsize=self.bsize,
            num_candidates=self.num_candidates,
            max_steps=self.max_steps,
            max_demos=self.max_demos,
            demo_input_field_maxlen=self.demo_input_field_maxlen,
            temperature_for_sampling=self.temperature_for_sampling,
            temperature_for_candidates=self.temperature_for_candidates,
            seed=seed,
            policy=self.policy,
            max_concurrency=self.num_threads or settings.num_threads,
            rollout_timeout=self.rollout_timeout,
            on_metric_error=self.on_metric_error,
            optimize=self.optimize,
            stop_when=self.stop_when,
            budget=self.budget or Budget(),
            progress=self.progress,
        )

    async def _optimize(self, config: OptimizerConfig) -> Any:
        async with Optimizer.start(config) as optimizer:
            result = await optimizer.result()
        program: Any = result.program
        program.candidate_programs = result.candidate_programs
        program.trial_logs = result.trial_logs
        return program

    def _teacher_lm(self) -> dspy.BaseLM | None:
        if not self.teacher_settings:
            return None
        settings: Any = dspy.settings
        return cast("dspy.BaseLM | None", self.teacher_settings.get("lm") or settings.lm)
