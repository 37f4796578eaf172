"""`dspy.SIMBA`'s own interface over the Optimizer: for everyone who has it today, one changed import."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
from dspy.teleprompt import Teleprompter

from simba_actors.config import Metric, OptimizerConfig, PolicyName
from simba_actors.errors import RunningLoopError
from simba_actors.lm.budget import Budget
from simba_actors.optimizer import Optimizer


class SIMBA(Teleprompter):
    """SIMBA with `dspy.SIMBA`'s arguments.

        from simba_actors import SIMBA

        better = SIMBA(metric=metric, bsize=16).compile(student, trainset=trainset, seed=0)
        better = await SIMBA(metric=metric, bsize=16).acompile(student, trainset=trainset)   # in a running loop

    The result is a copy of the student with the best configuration, with `candidate_programs` (a list of
    `{"score", "program"}`, best first) and `trial_logs` (by step) on it, as `dspy.SIMBA` has them.

    Args:
        teacher_settings: `{"lm": …}` names the LM that samples in place of the first copy of the student's.
        max_steps: Steps at most; by default `dspy.SIMBA`'s 8, or what another `policy` takes.
        num_threads: Rollouts in flight at most; by default `dspy.settings.num_threads`.
        store: Where the run is kept, so that it goes on after a crash. By default a file that is gone afterwards.
        policy, budget, progress: As in `OptimizerConfig`; the other arguments too, and `dspy.SIMBA` has them as well.
    """

    def __init__(
        self,
        *,
        metric: Metric,
        bsize: int = 32,
        num_candidates: int = 6,
        max_steps: int | None = None,
        max_demos: int = 4,
        prompt_model: Any = None,
        teacher_settings: dict[str, Any] | None = None,
        demo_input_field_maxlen: int = 100_000,
        num_threads: int | None = None,
        temperature_for_sampling: float = 0.2,
        temperature_for_candidates: float = 0.2,
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
        self.policy: PolicyName = policy
        self.store = store
        self.budget = budget
        self.progress = progress

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride] - dspy.SIMBA narrows it in the same way
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], seed: int = 0
    ) -> dspy.Module:
        """The optimized student. Runs an event loop of its own.

        Raises:
            RunningLoopError: There is a running event loop in this thread, which this call would stop.
            ConfigError: See `OptimizerConfig`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.acompile(student, trainset=trainset, seed=seed))
        raise RunningLoopError(
            "SIMBA.compile was called inside a running event loop, which it would stop: "
            "use `await SIMBA(…).acompile(student, trainset=…)` here"
        )

    async def acompile(self, student: dspy.Module, *, trainset: Sequence[dspy.Example], seed: int = 0) -> dspy.Module:
        """The optimized student. Cancelling it stops the run; with a `store`, the next call goes on from there."""
        if self.store is not None:
            return await self._optimize(student, trainset, seed, Path(self.store))
        with tempfile.TemporaryDirectory(prefix="simba_actors-") as directory:
            return await self._optimize(student, trainset, seed, Path(directory) / "simba.db")

    async def _optimize(
        self, student: dspy.Module, trainset: Sequence[dspy.Example], seed: int, store: Path
    ) -> dspy.Module:
        settings: Any = dspy.settings
        config = OptimizerConfig(
            student=student,
            metric=self.metric,
            trainset=trainset,
            store=store,
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
            budget=self.budget or Budget(),
            progress=self.progress,
        )
        async with await Optimizer.start(config) as optimizer:
            result = await optimizer.result()
        program: Any = result.program
        program.candidate_programs = result.candidate_programs
        program.trial_logs = result.trial_logs
        return program

    def _teacher_lm(self) -> Any:
        if not self.teacher_settings:
            return None
        settings: Any = dspy.settings
        return self.teacher_settings.get("lm") or settings.lm
