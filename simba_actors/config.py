"""What to optimize and how, checked before any money is spent.

config = OptimizerConfig(student=program, metric=metric, trainset=trainset, store="simba.db")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import dspy

from simba_actors.config_checks import (
    check_budget,
    check_callbacks,
    check_enough,
    check_enough_calls,
    check_examples,
    check_governor,
    check_inputs_fit,
    check_lm,
    check_metric,
    check_number,
    check_run_id,
    check_sampling_lms,
    check_strategies,
    check_student,
    check_whole,
    warn_of_overlap,
)
from simba_actors.errors import ConfigError
from simba_actors.events import EventCallback
from simba_actors.live import LiveProgram
from simba_actors.lm.budget import Budget
from simba_actors.lm.governor import Governor
from simba_actors.programs import ConfigurationSpace
from simba_actors.programs.space import check_space
from simba_actors.publishing.channel import check_channel
from simba_actors.search.objectives import Objectives
from simba_actors.search.stopping import StopWhen, check_stop_when
from simba_actors.store.opening import checked_path
from simba_actors.strategies import AppendADemo, AppendARule, LearnFromFailures, MergeRules, Recombine, Strategy

Metric: TypeAlias = Callable[..., Any]
"""`metric(example, prediction)` or `metric(example, prediction, trace)`, sync or async, giving a number, a bool, or a
`dspy.Prediction` with a `score` and, if it likes, more fields, which rule writers are shown. With `objectives`, the
`dspy.Prediction` has a score by the name of each in place of `score`."""

PublishMode: TypeAlias = Literal["manual", "best"]

OnMetricError: TypeAlias = Literal["stop", "score 0"]

PolicyName: TypeAlias = Literal["adaptive", "dspy"]

STEPS = {"adaptive": 24, "dspy": 8}
"""How many steps each policy takes by default; adaptive ones are a third of the size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """One optimization of one student.

    Args:
        student: The program to improve. It is never changed. It runs by `acall` if its class has an `aforward` of its
            own, otherwise in a thread.
        metric: `metric(example, prediction)` or `metric(example, prediction, trace)`, sync or async. It returns a
            number or a bool, the higher the better, or a `dspy.Prediction` with a `score`; see `Metric`.
        trainset: Examples with their inputs marked by `with_inputs`, at least `bsize` of them. Of more than 2,000,
            `policy="adaptive"` uses a random sample.
        valset: Examples that no rule or demo is made from. If given, the winner is chosen on them. Not with
            `policy="dspy"`, since `dspy.SIMBA` has none.
        objectives: How several named scores of the metric are combined: `Weighted({"accuracy": 0.8, …})` or
            `Pareto(["accuracy", …])`, see `simba_actors.search.objectives`.
        store: Path of the SQLite file that keeps the run. The file is made if it does not exist; its directory must
            exist. A relative path counts from the directory in which the run is started.
        space: What can be optimized; by default the instructions and demos of each predictor.
            `ConfigurationSpace.from_module(student, settings={"answer.temperature": Float(0.0, 1.5)})` lets the
            adaptive policy choose LM settings too, and, with `lms`, which LM a predictor uses.
        optimize: Names of the predictors to optimize, as in `student.named_predictors()`; by default all. The others
            run as they are, like those of sub-modules with `_compiled=True`.
        run_id: The run's name in the store. The default is made from the student, the trainset and the settings, so
            that the same config continues the same run.
        lm: The LM of predictors that have none of their own; `dspy.settings.lm` by default.
        prompt_model: The LM that writes rules; by default `dspy.settings.lm`, or else the student's.
        teacher_lm: If given, it samples one of `num_candidates` trajectories in place of the student's LM.
        sampling_lms: More LMs to sample trajectories with, by names of your own: other models, or the same one at
            several temperatures, as in `{"large": dspy.LM(…), "hot": dspy.LM(…, temperature=1.3)}`. They and the
            teacher take turns at a quarter of a step's trajectories. Good ones become demos; their scores do not count
            as the student's. Not with `policy="dspy"`, since `dspy.SIMBA` has none.
        bsize: Train examples per step.
        num_candidates: Trajectories sampled for each example of a step, which then makes up to one candidate more than
            that. The adaptive policy decides both by what pays, and takes only the size of the run from this.
        max_steps: The most steps; 24 by default, and 8 with `policy="dspy"`.
        max_demos: Demos that a predictor can hold before it forgets some; 0 adds none.
        demo_input_field_maxlen: Characters of an input that a demo keeps; 0 keeps all.
        temperature_for_sampling: With `policy="dspy"`, the softmax temperature for choosing the programs that sample
            trajectories; 0 is greedy. The adaptive policy chooses by what it is uncertain about.
        temperature_for_candidates: The same for choosing the programs that candidates are made from.
        seed: The seed of all random draws.
        policy: "adaptive" learns what each rule and demo is worth and combines the best: see
            `simba_actors.search.adaptive.policy`. Without a cap on calls in `budget`, it makes as many rollouts as
            `dspy.SIMBA` would with the same settings. "dspy" is `dspy.SIMBA`, draw for draw.
        strategies: How candidates are made, in the order they are drawn from. The default is `AppendADemo` (unless
            `max_demos` is 0), `LearnFromFailures`, `MergeRules` and `Recombine`; with `policy="dspy"`, `AppendADemo`
            and `AppendARule`.
        max_concurrency: The most rollouts in flight. Each endpoint is assumed to accept as many calls until it refuses
            one; from then on concurrency adapts to what it accepts.
        rollout_timeout: Seconds that a rollout may take before it counts as an infrastructure failure. Time in which
            it waits for its turn at an endpoint does not count.
        on_metric_error: "stop" ends the run with MetricError when the metric raises or returns something that is not a
            number; fixed and started again, it continues. "score 0" counts such a rollout as 0, as `dspy.SIMBA` does.
        resume_after: Seconds after which a run resumes by itself that is paused for an LM's refusal or outage. By
            default it waits for `Optimizer.resume`, and `Optimizer.result` raises RunPausedError.
        budget: Caps on calls, cost, tokens and time.
        stop_when: Asked at the end of each step whether the search has found enough, see
            `simba_actors.search.stopping`; then the winner is chosen, as after `max_steps`. By default nothing ends the
            search early. It may differ between the lives of a run.
        governor: Sends the LM calls, with the limits of endpoints and the grace period for their faults. By default
            all optimizers of an event loop share one.
        publish: "best" publishes a program to `channel` as soon as it is clearly better than what is served there, on
            examples that both were scored on; "manual" leaves that to `Optimizer.publish`.
        channel: The name that live programs follow.
        progress: Show step, best score, rollouts, cost and time left on stderr: a bar with the extra `progress`, and a
            line per step where there is no terminal.
        callbacks: Called with each event once it is stored, sync or async, beside the run. A slow one does not slow the
            run down; one that raises is logged and not called again.

    Raises:
        ConfigError: A value is missing, out of range or does not fit the others; the message says which and why.
        MisfitError: `space` is that of another student.
    """

    student: dspy.Module
    metric: Metric
    trainset: Sequence[dspy.Example]
    store: str | Path
    space: ConfigurationSpace | None = None
    optimize: Sequence[str] | None = None
    valset: Sequence[dspy.Example] = ()
    objectives: Objectives | None = None
    run_id: str | None = None
    lm: dspy.BaseLM | None = None
    prompt_model: dspy.BaseLM | None = None
    teacher_lm: dspy.BaseLM | None = None
    sampling_lms: Mapping[str, dspy.BaseLM] = field(default_factory=dict[str, dspy.BaseLM])
    bsize: int = 32
    num_candidates: int = 6
    max_steps: int | None = None
    max_demos: int = 4
    demo_input_field_maxlen: int = 100_000
    temperature_for_sampling: float = 0.2
    temperature_for_candidates: float = 0.2
    seed: int = 0
    policy: PolicyName = "adaptive"
    strategies: Sequence[Strategy] | None = None
    max_concurrency: int = 32
    rollout_timeout: float = 300.0
    on_metric_error: OnMetricError = "stop"
    resume_after: float | None = None
    budget: Budget = Budget()
    stop_when: StopWhen | None = None
    governor: Governor | None = None
    publish: PublishMode = "manual"
    channel: str = "default"
    progress: bool = False
    callbacks: Sequence[EventCallback] = ()

    def __post_init__(self) -> None:
        check_student(self.student)
        if isinstance(self.student, LiveProgram):
            raise ConfigError("student is a LiveProgram, which runs what is published: give what it runs, live.student")
        check_metric(self.metric)
        if self.run_id is not None:
            check_run_id(self.run_id)
        for name in ("bsize", "num_candidates", "max_concurrency"):
            check_whole(name, getattr(self, name), least=1)
        if self.max_steps is not None:
            check_whole("max_steps", self.max_steps, least=1)
        for name in ("max_demos", "demo_input_field_maxlen"):
            check_whole(name, getattr(self, name), least=0)
        check_whole("seed", self.seed, least=0)
        for name in ("temperature_for_sampling", "temperature_for_candidates"):
            check_number(name, getattr(self, name), least=0.0)
        check_number("rollout_timeout", self.rollout_timeout, above=0.0)
        if self.resume_after is not None:
            check_number("resume_after", self.resume_after, above=0.0)
        if self.policy not in STEPS:
            raise ConfigError(f"policy={self.policy!r}: the policies are 'adaptive' and 'dspy'")
        if self.publish not in ("manual", "best"):
            raise ConfigError(f"publish={self.publish!r}: must be 'manual' or 'best'")
        if self.on_metric_error not in ("stop", "score 0"):
            raise ConfigError(f"on_metric_error={self.on_metric_error!r}: must be 'stop' or 'score 0'")
        if self.objectives is not None and not isinstance(cast("Any", self.objectives), Objectives):
            raise ConfigError(f"objectives={self.objectives!r:.80}: must be Weighted({{…}}) or Pareto([…])")
        for name in ("lm", "prompt_model", "teacher_lm"):
            check_lm(name, getattr(self, name))
        check_budget(self.budget)
        if self.policy == "adaptive":
            check_enough_calls(self.budget.max_calls, self.bsize, len(self.student.predictors()))
        check_governor(self.governor)
        if self.stop_when is not None:
            check_stop_when(self.stop_when)
        check_space(self.space)
        if self.optimize is not None:
            if self.space is not None:
                raise ConfigError("optimize and space: name them by ConfigurationSpace.from_module(…, optimize=…)")
            ConfigurationSpace.from_module(self.student, optimize=self.optimize)
        if self.space is not None:
            self.space.extract(self.student)
            if self.space.settings and self.policy == "dspy":
                raise ConfigError("space: policy='dspy' chooses no LM settings; use policy='adaptive'")
        checked_path(self.store)
        check_channel(self.channel)
        check_sampling_lms(self.sampling_lms)
        if self.sampling_lms and self.policy == "dspy":
            raise ConfigError(
                "sampling_lms: policy='dspy' samples with the student's LM and the teacher's; use policy='adaptive'"
            )
        if self.valset and self.policy == "dspy":
            raise ConfigError("valset: policy='dspy' chooses its winner on the trainset; use policy='adaptive'")
        for name, examples in (("trainset", self.trainset), ("valset", self.valset)):
            check_examples(name, examples)
            check_inputs_fit(self.student, name, examples)
        check_enough(self.trainset, self.bsize)
        warn_of_overlap(self.trainset, self.valset)
        check_callbacks(self.callbacks)
        if self.strategies is not None:
            check_strategies(self.strategies)

    @property
    def steps(self) -> int:
        """`max_steps`, or the policy's own number."""
        return STEPS[self.policy] if self.max_steps is None else self.max_steps

    def chosen_strategies(self) -> Sequence[Strategy]:
        """`strategies`, or the policy's own."""
        if self.strategies is not None:
            return self.strategies
        rules = (AppendARule(),) if self.policy == "dspy" else (LearnFromFailures(), MergeRules(), Recombine())
        return (AppendADemo(self.demo_input_field_maxlen), *rules) if self.max_demos > 0 else rules
