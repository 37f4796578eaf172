"""The settings of a run, checked before any LM is called.

config = OptimizerConfig(student=program, metric=metric, trainset=trainset, store="simba.db")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import dspy

from simba_actors.class_help import suggests_names
from simba_actors.config_checks import (
    check_budget,
    check_callbacks,
    check_enough,
    check_enough_calls,
    check_examples,
    check_executor,
    check_governor,
    check_lm,
    check_metric,
    check_number,
    check_objectives,
    check_on_metric_error,
    check_remote_lms,
    check_run_id,
    check_sampling_lms,
    check_strategies,
    check_student,
    check_whole,
    warn_of_overlap,
)
from simba_actors.errors import ConfigError
from simba_actors.evaluation.executor import ExecutorFactory
from simba_actors.events import EventCallback
from simba_actors.live import LiveProgram
from simba_actors.lm.budget import Budget
from simba_actors.lm.governor import Governor
from simba_actors.programs import ConfigurationSpace
from simba_actors.programs.sentences import sentences_of
from simba_actors.programs.space import check_space
from simba_actors.publishing.channel import check_channel
from simba_actors.search.objectives import Objectives
from simba_actors.search.stopping import DEFAULT_STOP, StopWhen, check_stop_when
from simba_actors.store.opening import checked_path
from simba_actors.strategies import (
    AppendADemo,
    AppendARule,
    LearnFromFailures,
    MergeRules,
    OmitSentences,
    Recombine,
    RewriteTexts,
    Strategy,
)

Metric: TypeAlias = Callable[..., Any]
"""A function `metric(example, prediction)` or `metric(example, prediction, trace)`, sync or async.

It returns a number, a bool, or a `dspy.Prediction` with a `score`; higher is better. Other fields of the prediction,
such as `feedback`, are shown to the LM that writes rules. With `objectives`, the prediction has one field for each
objective instead of `score`."""

PublishMode: TypeAlias = Literal["manual", "best"]

OnMetricError: TypeAlias = Literal["stop", "score 0"]

PolicyName: TypeAlias = Literal["adaptive", "dspy"]

STEPS = {"adaptive": 24, "dspy": 8}
"""Default number of steps by policy. Steps of the adaptive policy are a third of the size."""


LONGEST_OUTPUT = 100_000
"""Characters beyond which the adaptive policy makes no demo of an output."""


@suggests_names(
    within={"budget": Budget, "governor": Governor},
    named={
        "num_threads": "max_concurrency",
        "teacher_settings": "teacher_lm",
        "devset": "valset",
        "reflection_lm": "prompt_model",
        "max_metric_calls": "budget=Budget(max_calls=…)",
        "max_bootstrapped_demos": "max_demos",
        "requests_per_minute": "governor=Governor(limits={…: Limits(requests_per_minute=…)})",
        "tokens_per_minute": "governor=Governor(limits={…: Limits(tokens_per_minute=…)})",
    },
)
@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """The settings of one optimization run.

        config = OptimizerConfig(student=program, metric=metric, trainset=trainset, store="simba.db", bsize=16)

    Required: `student`, `metric`, `trainset`, `store`. The rest is optional:

        what to improve    space, optimize, valset, objectives
        LMs                lm, prompt_model, teacher_lm, sampling_lms, governor
        search             policy, strategies, bsize, num_candidates, max_steps, stop_when, seed, max_demos,
                           demo_input_field_maxlen, temperature_for_sampling, temperature_for_candidates
        limits             budget, max_concurrency, rollout_timeout
        where it runs      executor
        failures           on_metric_error, resume_after
        publishing         publish, channel
        the run            run_id, progress, callbacks

    Raises:
        ConfigError: A value is missing, is out of range or does not fit the others. The message names the value and
            the remedy.
        MisfitError: `space` was made for another student.
    """

    student: dspy.Module
    """The program to improve. It is never changed. It runs with `acall` if its class defines `aforward`, otherwise in a
    thread. If it calls `dspy.asyncify` or `dspy.streamify(…, async_streaming=False)` there, set
    `dspy.configure(async_max_workers=…)` to at least `max_concurrency`: with fewer workers DSPy loses calls that wait
    for one, in `dspy.Evaluate` too, and rollouts end by `rollout_timeout`. `RemoteStudent("http://host:7000")` is a
    program in another process, in any language."""

    metric: Metric
    """Function, sync or async, that scores a prediction: `metric(example, prediction)` or `metric(example, prediction,
    trace)`. It returns a number or a bool, higher is better, or a `dspy.Prediction` with a `score`. Other fields of the
    prediction, such as `feedback`, are shown to the LM that writes rules."""

    trainset: Sequence[dspy.Example] = field(repr=False)
    """Examples to learn from, at least `bsize`, with their inputs marked by `with_inputs`. `policy="adaptive"` uses a
    random sample of 2,000 if there are more."""

    store: str | Path
    """Path of the SQLite file that keeps the run. Created if missing, in a directory that must exist. A relative path
    is resolved against the working directory when the run starts."""

    space: ConfigurationSpace | None = None
    """What to optimize; by default the instructions and demos of each predictor. With
    `ConfigurationSpace.from_module(student, settings={"answer.temperature": Float(0.0, 1.5)})` the adaptive policy also
    chooses LM settings. A `Text()` lets it rewrite descriptions of fields and other texts, and the argument `lms` lets
    it choose the LM of a predictor."""

    optimize: Sequence[str] | None = None
    """Names of the predictors to optimize, as in `student.named_predictors()`; by default all. The others run
    unchanged, as do those of sub-modules with `_compiled=True`."""

    valset: Sequence[dspy.Example] = field(default=(), repr=False)
    """Examples to choose the winner on, which never become rules or demos. By default the winner is chosen on the
    trainset. Not allowed with `policy="dspy"`, since `dspy.SIMBA` has none."""

    objectives: Objectives | None = None
    """Rule for combining several named scores of the metric: `Weighted({"accuracy": 0.8, …})` or
    `Pareto(["accuracy", …])`. See `simba_actors.search.objectives`."""

    run_id: str | None = None
    """Name of the run in the store. By default it is derived from the student, the trainset and the settings, so the
    same config continues the same run."""

    lm: dspy.BaseLM | None = None
    """LM of the predictors that have none of their own; by default `dspy.settings.lm`."""

    prompt_model: dspy.BaseLM | None = None
    """LM that writes rules; by default `dspy.settings.lm`, or the student's LM if that is not set."""

    teacher_lm: dspy.BaseLM | None = None
    """LM that samples trajectories for the student to learn from. With `policy="dspy"` it replaces the student's LM in
    one of `num_candidates` trajectories."""

    sampling_lms: Mapping[str, dspy.BaseLM] = field(default_factory=dict[str, dspy.BaseLM])
    """Additional LMs to sample trajectories with, under names that you choose: other models, or one model at several
    temperatures, as in `{"large": dspy.LM(…), "hot": dspy.LM(…, temperature=1.3)}`. They and the teacher take turns at
    a quarter of a step's trajectories. Good trajectories become demos; their scores do not count as the student's. Not
    allowed with `policy="dspy"`, since `dspy.SIMBA` has none."""

    bsize: int = 32
    """Examples per step. The adaptive policy derives the size of the run from it, and chooses the number for each step
    itself."""

    num_candidates: int = 6
    """Trajectories per example of a step, and one less than the step's maximum number of candidates. The adaptive
    policy derives only the size of the run from it."""

    max_steps: int | None = None
    """Maximum number of steps; by default 24, or 8 with `policy="dspy"`."""

    max_demos: int = 4
    """Maximum number of demos per predictor; 0 adds none. With `policy="dspy"`, the number from which on some are
    dropped, as in `dspy.SIMBA`."""

    demo_input_field_maxlen: int = 100_000
    """Maximum length, in characters, of an input that is kept in a demo. Longer ones are cut; 0 keeps all."""

    temperature_for_sampling: float = 0.2
    """Softmax temperature for choosing the programs that sample trajectories; 0 is greedy. Used by `policy="dspy"`
    only."""

    temperature_for_candidates: float = 0.2
    """Softmax temperature for choosing the programs that candidates are made from; 0 is greedy. Used by
    `policy="dspy"` only."""

    seed: int = 0
    """Seed of all random draws."""

    policy: PolicyName = "adaptive"
    """Rules by which the search chooses what to try next. "dspy" equals `dspy.SIMBA`, draw for draw. "adaptive" learns
    the value of each rule and demo and combines the best; without a cap on calls in `budget`, it makes as many rollouts
    as `dspy.SIMBA` with the same settings and at most 2,000 examples."""

    strategies: Sequence[Strategy] | None = None
    """Ways to make candidates, in the order in which they are drawn from. By default `AppendADemo` (unless `max_demos`
    is 0), `LearnFromFailures`, `RewriteTexts` (if `space` has texts), `MergeRules`, `OmitSentences` (if the student has
    instructions of its own) and `Recombine`; with `policy="dspy"`, `AppendADemo` and `AppendARule`."""

    max_concurrency: int = 32
    """Maximum number of rollouts in flight. Each endpoint is assumed to accept that many calls until it refuses one;
    then concurrency adapts to what the endpoint accepts. When a run of the adaptive policy starts, this also decides
    how many steps it has open at a time at most (`steps_at_once` in its settings), which changes the result."""

    rollout_timeout: float = 300.0
    """Seconds that a rollout may take before it counts as an infrastructure failure. Waiting for a turn at an endpoint
    does not count."""

    on_metric_error: OnMetricError = "stop"
    """Reaction to a metric that raises or returns something that is not a number. "stop" ends the run with
    MetricError; after the metric is fixed, starting again continues the run. "score 0" scores the rollout 0, as
    `dspy.SIMBA` does."""

    resume_after: float | None = None
    """Seconds after which a run resumes that was paused because an LM refused or could not be reached. By default it
    stays paused until `Optimizer.resume`, and `Optimizer.result` raises RunPausedError."""

    budget: Budget = Budget()
    """Caps on calls, cost, tokens and time; by default none."""

    stop_when: StopWhen | None = DEFAULT_STOP
    """Rule that decides at the end of each step whether to stop the search. If so, open steps are finished and the
    winner is chosen, as after `max_steps`. By default the adaptive policy stops when the rest of the calls is expected
    to add less than 0.01 of the metric's range; None lets it use its whole budget, and continues a run that was
    stopped. It may change when a run is continued. See `simba_actors.search.stopping`."""

    governor: Governor | None = None
    """Sends the LM calls and holds the limits of endpoints and their retry policy. By default, all optimizers of an
    event loop share one."""

    executor: ExecutorFactory | None = None
    """Where rollouts run: by default in this process, or with `RayExecutor(workers=8)` in worker processes of Ray. Any
    function may make the executor of a run: it is called with the arguments of
    `simba_actors.evaluation.executor.ExecutorFactory`. No result depends on it, and it may change when a run is
    continued."""

    publish: PublishMode = "manual"
    """"best" publishes a program to `channel` as soon as it is clearly better than the one served there, on examples
    that both were scored on. "manual" leaves publishing to `Optimizer.publish`."""

    channel: str = "default"
    """Name of the channel that live programs follow."""

    progress: bool = False
    """Whether to show step, best score, rollouts, cost and time left on stderr: a bar if the extra `progress` is
    installed, or one line per step if stderr is not a terminal. In a notebook, a line that is redrawn in place."""

    callbacks: Sequence[EventCallback] = ()
    """Functions, sync or async, to call with each event after it is stored, until the optimizer stops. A slow one does
    not slow down the run; one that raises is logged and not called again. An object that is callable may also have a
    method `started(optimizer)`, called once before the first event, and an attribute `farewell`: the seconds that it
    may take for the last events when the optimizer stops, by default 0.5. `simba_actors.observe.MLflowCallback` is
    one."""

    def __post_init__(self) -> None:
        check_student(self.student)
        if isinstance(self.student, LiveProgram):
            raise ConfigError("student is a LiveProgram, which runs what is published: pass live.student instead")
        check_metric(self.metric)
        if self.run_id is not None:
            check_run_id(self.run_id)
        self._check_numbers()
        self._check_choices()
        self._check_space()
        checked_path(self.store)
        check_channel(self.channel)
        self._check_sampling_lms()
        self._check_examples()
        check_callbacks(self.callbacks)
        if self.strategies is not None:
            check_strategies(self.strategies)

    def _check_numbers(self) -> None:
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

    def _check_choices(self) -> None:
        if self.policy not in STEPS:
            raise ConfigError(f"policy={self.policy!r}: must be 'adaptive' or 'dspy'")
        if self.publish not in ("manual", "best"):
            raise ConfigError(f"publish={self.publish!r}: must be 'manual' or 'best'")
        check_on_metric_error(self.on_metric_error)
        check_objectives(self.objectives)
        for name in ("lm", "prompt_model", "teacher_lm"):
            check_lm(name, getattr(self, name))
        check_budget(self.budget)
        if self.policy == "adaptive":
            check_enough_calls(self.budget.max_calls, self.bsize, len(dspy.Module.predictors(self.student)))
        check_governor(self.governor)
        check_executor(self.executor)
        if self.stop_when is not None:
            check_stop_when(self.stop_when)

    def _check_space(self) -> None:
        check_space(self.space)
        if self.optimize is not None:
            if self.space is not None:
                raise ConfigError(
                    "optimize and space are both given: use ConfigurationSpace.from_module(…, optimize=…)"
                )
            ConfigurationSpace.from_module(self.student, optimize=self.optimize)
        if self.space is not None:
            self.space.extract(self.student)
            if self.space.settings and self.policy == "dspy":
                raise ConfigError("space has settings, which policy='dspy' can't choose: use policy='adaptive'")

    def _check_sampling_lms(self) -> None:
        check_sampling_lms(self.sampling_lms)
        lms: Mapping[str, Any] = {} if self.space is None else self.space.lms
        check_remote_lms(self.student, {"teacher_lm": self.teacher_lm, **self.sampling_lms, **lms})
        if self.sampling_lms and self.policy == "dspy":
            raise ConfigError(
                "sampling_lms: policy='dspy' samples only with the student's LM and teacher_lm; use policy='adaptive'"
            )

    def _check_examples(self) -> None:
        if self.valset and self.policy == "dspy":
            raise ConfigError("valset: policy='dspy' chooses its winner on the trainset; use policy='adaptive'")
        for name, examples in (("trainset", self.trainset), ("valset", self.valset)):
            check_examples(self.student, name, examples)
        check_enough(self.trainset, self.bsize)
        warn_of_overlap(self.trainset, self.valset)

    @property
    def steps(self) -> int:
        """Maximum number of steps: `max_steps`, or the policy's default."""
        return STEPS[self.policy] if self.max_steps is None else self.max_steps

    def chosen_strategies(self) -> Sequence[Strategy]:
        """Return `strategies`, or the policy's default ones."""
        if self.strategies is not None:
            return self.strategies
        if self.policy == "dspy":
            rules = (AppendARule(),)
        else:
            texts = () if self.space is None else self.space.texts
            rewrite = (RewriteTexts(texts),) if texts else ()
            omit = (OmitSentences(),) if self._has_sentences() else ()
            rules = (LearnFromFailures(), *rewrite, MergeRules(), *omit, Recombine())
        longest = LONGEST_OUTPUT if self.policy == "adaptive" else 0  # As in `dspy.SIMBA`.
        return (AppendADemo(self.demo_input_field_maxlen, longest), *rules) if self.max_demos > 0 else rules

    def _has_sentences(self) -> bool:
        predictors: list[Any] = dspy.Module.predictors(self.student)
        return any(sentences_of(predictor.signature.instructions) for predictor in predictors)
