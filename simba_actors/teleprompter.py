"""`dspy.SIMBA`'s own interface over the Optimizer: for everyone who has it today, one changed import."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import dspy
from dspy.teleprompt.teleprompt import Teleprompter
from dspy.utils.callback import with_callbacks  # pyright: ignore[reportUnknownVariableType]

from simba_actors.config import Metric, OnMetricError, OptimizerConfig, PolicyName
from simba_actors.errors import RunningLoopError
from simba_actors.lm.budget import Budget
from simba_actors.optimizer import Optimizer
from simba_actors.search.stopping import StopWhen

Student = TypeVar("Student", bound=dspy.Module)
Method = TypeVar("Method")


def _with_compile_callbacks(method: Method) -> Method:
    """Call DSPy's `on_compile_start` and `on_compile_end`. DSPy does so by itself for methods named `compile` only."""
    return cast("Any", with_callbacks)(method)


class SIMBA(Teleprompter):
    """SIMBA with `dspy.SIMBA`'s arguments.

        from simba_actors import SIMBA

        better = SIMBA(metric=metric, bsize=16).compile(student, trainset=trainset, seed=0)
        better = await SIMBA(metric=metric, bsize=16).acompile(student, trainset=trainset)   # in a running loop

    The result is a copy of the student with the best configuration, with `candidate_programs` (a list of
    `{"score", "program"}`, best first) and `trial_logs` (by step) on it, as `dspy.SIMBA` has them.

    Args:
        metric: `metric(example, prediction)`, or with `trace` as a third argument; see `simba_actors.config.Metric`.
        teacher_settings: `{"lm": …}` names the LM that samples in place of the first copy of the student's.
        max_steps: The most steps; by default `dspy.SIMBA`'s 8, or what another `policy` takes.
        num_threads: The most rollouts in flight; by default `dspy.settings.num_threads`.
        store: Where the run is kept, so that it continues after a crash. By default a file that is deleted afterwards.
        on_metric_error: "stop", or "score 0" as in `dspy.SIMBA`.
        lm, optimize, rollout_timeout, stop_when, budget, policy, progress: As in `OptimizerConfig`.

    The other arguments are those of `dspy.SIMBA`.
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
        stop_when: StopWhen | None = None,
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
        """Return the optimized student. Runs an event loop of its own.

        Args:
            student: The program to improve. It is not changed.
            trainset: Examples to learn from.
            valset: Examples to choose the winner on, with `policy="adaptive"`; by default the trainset.
            seed: The seed of all random draws.

        Raises:
            RunningLoopError: There is a running event loop in this thread, which this call would block.
            RunPausedError: An LM refused to serve, or could not be reached; the reason is in the message. With a
                `store`, the next call continues from there.
            ConfigError: See `OptimizerConfig`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self._compile(student, trainset, valset, seed))
        raise RunningLoopError(
            "SIMBA.compile was called inside a running event loop, which it would stop: "
            "use `await SIMBA(…).acompile(student, trainset=…)` here"
        )

    @_with_compile_callbacks
    async def acompile(
        self,
        student: Student,
        *,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None = None,
        seed: int = 0,
    ) -> Student:
        """Return the optimized student, as `compile` does, in the running event loop.

        Cancelling it stops the run; with a `store`, the next call continues from there.
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
