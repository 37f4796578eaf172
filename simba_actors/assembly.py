"""From a config to everything that a run is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, cast

import dspy

from simba_actors.actors import Registry
from simba_actors.config import STEPS, OptimizerConfig
from simba_actors.errors import NoLMError, SimbaError
from simba_actors.evaluation.executor import LocalExecutor
from simba_actors.events import CallRetried, Event
from simba_actors.fingerprint import SEARCH_SETTINGS, SIMBA_SETTINGS, default_run_id, fingerprint
from simba_actors.lm.budget_tracker import Purse
from simba_actors.lm.governed_lm import endpoint_name, governed
from simba_actors.lm.governor import Caller, Fault, shared_governor
from simba_actors.lm.prompt_model import LocalPromptModel
from simba_actors.observe.telemetry import telemetry_of
from simba_actors.programs import ConfigurationSpace, to_json_value
from simba_actors.runtime.threads import Threads
from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.model.fitting import Row
from simba_actors.search.plan import STUDENT_LM
from simba_actors.search.policy import Policy
from simba_actors.search.settings import SearchSettings
from simba_actors.search.simba.policy import DspyPolicy
from simba_actors.search.trajectory import JSON
from simba_actors.store import Owner
from simba_actors.store.opening import checked_path
from simba_actors.store.records import NewRun
from simba_actors.team.messages import Commit
from simba_actors.team.reports import Reports
from simba_actors.team.setup import POOL_KEEPER, Gate, RunSetup


def assemble(
    config: OptimizerConfig,
    finished: Callable[[SimbaError | None], None],
    heard: Callable[[Sequence[Event]], None],
) -> RunSetup:
    """The setup of the run that `config` describes. Called on the event loop, in the context that rollouts get.

    Raises:
        NoLMError: Some predictor has no LM, and there is no other to use.
    """
    space = config.space or ConfigurationSpace.from_module(config.student)
    student_configuration = space.extract(config.student)
    lms = _model_pool(config)
    parts = fingerprint(config, student_configuration, lms, space)
    governor = config.governor or shared_governor()
    for lm in lms.values():
        governor.endpoint(endpoint_name(lm)).window.expect(config.max_concurrency)
    registry, gate, threads = Registry(), Gate(), Threads()
    reports = Reports(registry.via(POOL_KEEPER))

    def on_fault(fault: Fault) -> None:
        event = CallRetried(endpoint=fault.endpoint, error=fault.error, attempt=fault.attempt, delay=fault.delay)
        reports.report(event)

    purse = Purse(config.budget)

    async def reserve_call() -> None:
        purse.take_call()
        if purse.unreserved:
            await registry.via(POOL_KEEPER).call(Commit(()), timeout=None)

    run_id = config.run_id or default_run_id(config, parts)
    telemetry = telemetry_of(run_id, governor)
    caller = Caller(
        gate=gate,
        before_call=reserve_call,
        before_blocking_call=purse.take_call,
        on_fault=on_fault,
        on_answer=telemetry.lm_answered,
    )
    settings: Any = dspy.settings
    prompt_lm = governed(
        config.prompt_model or settings.lm or lms[STUDENT_LM], governor, caller=caller, threads=threads
    )

    def tell(events: Sequence[Event]) -> None:
        telemetry.heard(events)
        heard(events)

    strategies = {strategy.name: strategy for strategy in config.chosen_strategies()}
    with telemetry.lm_calls():
        executor = LocalExecutor(
            student=config.student,
            space=space,
            rows={"train": config.trainset, "val": config.valset},
            metric=config.metric,
            lms=lms,
            governor=governor,
            caller=caller,
            threads=threads,
            objectives=config.objectives,
            rollout_timeout=config.rollout_timeout,
        )
    return RunSetup(
        run=NewRun(run_id, parts, _shown_settings(config)),
        owner=Owner.this_process(),
        store=checked_path(config.store),
        policy=_policy(config, lms, tuple(strategies)),
        executor=executor,
        space=space,
        student=config.student,
        student_configuration=student_configuration,
        trainset=config.trainset,
        strategies=strategies,
        prompt_model=lambda: LocalPromptModel(prompt_lm, governor.secrets, config.rollout_timeout),
        max_concurrency=config.max_concurrency,
        publishes_to=config.channel if config.publish == "best" else None,
        rollouts_expected=_rollouts_expected(config),
        max_steps=config.steps,
        stop_when=config.stop_when,
        objectives=config.objectives,
        governor=governor,
        purse=purse,
        registry=registry,
        gate=gate,
        threads=threads,
        reports=reports,
        telemetry=telemetry,
        finished=finished,
        heard=tell,
    )


def _policy(config: OptimizerConfig, lms: dict[str, Any], strategies: tuple[str, ...]) -> Policy:
    settings = SearchSettings(**{name: getattr(config, name) for name in SIMBA_SETTINGS}, max_steps=config.steps)
    if config.policy == "dspy":
        return DspyPolicy(
            settings,
            examples=len(config.trainset),
            strategies=strategies,
            teacher="teacher" in lms,
            first_rollout_id=_first_rollout_id(config.student, lms[STUDENT_LM]),
        )
    return AdaptivePolicy(
        settings,
        train_examples=tuple(_row(example) for example in config.trainset),
        val_examples=tuple(_row(example) for example in config.valset),
        rollouts=_rollouts_expected(config),
        strategies=strategies,
        predictors=len(config.student.predictors()),
        other_lms=tuple(name for name in lms if name != STUDENT_LM),
    )


def _row(example: dspy.Example) -> Row:
    fields = {name: str(to_json_value(value)) for name, value in cast("dict[str, object]", example.toDict()).items()}
    labels = {name: fields[name] for name in cast("dict[str, object]", example.labels().toDict())}
    return Row(" ".join(fields.values()), labels)


def _model_pool(config: OptimizerConfig) -> dict[str, Any]:
    settings: Any = dspy.settings
    own = [predictor.lm for predictor in config.student.predictors()]
    student_lm = config.lm or settings.lm or next((lm for lm in own if lm is not None), None)
    if student_lm is None:
        raise NoLMError(
            "there is no LM to run the student with: pass lm=dspy.LM(…), set one with dspy.configure(lm=…) or "
            "dspy.context(lm=…), or give each predictor one"
        )
    lms = {STUDENT_LM: student_lm}
    if config.teacher_lm is not None:
        lms["teacher"] = config.teacher_lm
    return {**lms, **config.sampling_lms}


def _rollouts_expected(config: OptimizerConfig) -> int:
    """What `dspy.SIMBA` would make: all steps, with as many candidates as they can have, and as many finalists.

    The adaptive policy takes no more than that unless the budget's cap on calls says otherwise.
    """
    calls = config.budget.max_calls
    if config.policy == "adaptive" and calls is not None:
        return max(1, calls // len(config.student.predictors()))
    candidates = config.num_candidates + 1
    a_step = config.bsize * (config.num_candidates + candidates)
    return (config.max_steps or STEPS["dspy"]) * a_step + candidates * len(config.trainset)


def _first_rollout_id(student: dspy.Module, default: Any) -> int:
    """The rollout id that `dspy.SIMBA` counts from: that of the LM which it would copy."""
    own = {id(predictor.lm): predictor.lm for predictor in student.predictors()}
    lm = (next(iter(own.values())) if len(own) == 1 else None) or default
    return int(lm.kwargs.get("rollout_id") or 0)


def _shown_settings(config: OptimizerConfig) -> dict[str, JSON]:
    return {
        **{name: getattr(config, name) for name in SEARCH_SETTINGS},
        "max_steps": config.steps,
        "max_concurrency": config.max_concurrency,
        "rollout_timeout": config.rollout_timeout,
        "budget": asdict(config.budget),
    }
