"""Assembly of a run: its actors and their dependencies, made from an OptimizerConfig."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast, overload

import dspy

from simba_actors.actors import ChildSpec, GenServer, Registry
from simba_actors.bridge.remote_student import RemoteLM
from simba_actors.config import STEPS, OptimizerConfig
from simba_actors.dspy_compat import check_dspy
from simba_actors.errors import LeaseLostError, LMUnavailableError, NoLMError, SimbaError, StoreError
from simba_actors.evaluation.executor import Executor, ExecutorFactory, LocalExecutor
from simba_actors.events import CallRetried, Event
from simba_actors.fingerprint import SEARCH_SETTINGS, SIMBA_SETTINGS, ExampleDigests, default_run_id, fingerprint
from simba_actors.lm.budget import BudgetTracker, CallSize
from simba_actors.lm.governed_lm import Twins, endpoint_name, governed
from simba_actors.lm.governor import Caller, Fault, Governor, shared_governor
from simba_actors.lm.prompt_model import LocalPromptModel
from simba_actors.lm.usage import calls, prompt_characters, reported_cost, tokens
from simba_actors.observe.telemetry import Telemetry, telemetry_of
from simba_actors.programs import ConfigurationSpace, to_json_value
from simba_actors.programs.messages import prompt_templates
from simba_actors.runtime.threads import Threads
from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.model.examples import ExampleText
from simba_actors.search.policy import Policy
from simba_actors.search.rollout import JSON, STUDENT_LM
from simba_actors.search.settings import SearchSettings
from simba_actors.search.simba.policy import DspyPolicy
from simba_actors.store import Owner
from simba_actors.store.opening import checked_path
from simba_actors.store.ownership import LEASE_SECONDS, check_owner, reserve_call
from simba_actors.store.records import NewRun
from simba_actors.store.requests import Request
from simba_actors.strategies import AppendARule, LearnFromFailures, MergeRules
from simba_actors.team.analyzer import Analyzer
from simba_actors.team.coordinator import Coordinator
from simba_actors.team.ending import Ending
from simba_actors.team.messages import (
    ANALYZER,
    COORDINATOR,
    POOL_KEEPER,
    PROPOSER,
    PUBLISHER,
    SAMPLER,
    SilenceBegun,
    SilenceEnded,
    Teammates,
)
from simba_actors.team.pool_keeper import PoolKeeper
from simba_actors.team.proposer import Proposer
from simba_actors.team.publisher import Publisher
from simba_actors.team.run_state import Gate, Lease, Life, Silence
from simba_actors.team.sampler import Sampler
from simba_actors.team.setting_aside import SettingAside

RULE_WRITERS = (AppendARule, LearnFromFailures, MergeRules)
"""Strategies that ask the prompt model."""

TEAM: Mapping[str, type[GenServer[Any]]] = {
    POOL_KEEPER: PoolKeeper,
    SAMPLER: Sampler,
    ANALYZER: Analyzer,
    PROPOSER: Proposer,
    PUBLISHER: Publisher,
    COORDINATOR: Coordinator,
}
"""The actors in start order. Each depends only on those before it."""


@dataclass(frozen=True, slots=True)
class AssembledRun:
    """The parts of a run that is ready to start."""

    new: NewRun
    store: Path
    owner: Owner
    life: Life
    space: ConfigurationSpace
    executor: Executor
    governor: Governor
    caller: Caller
    teammates: Teammates
    gate: Gate
    lease: Lease
    threads: Threads
    """Run students, metrics and LMs that block."""
    planning: Threads
    """Run the policy."""
    telemetry: Telemetry
    team: Sequence[ChildSpec]
    """Child specifications of the actors, in start order."""

    async def end(self) -> None:
        """End what a run whose team has ended leaves behind."""
        await self.executor.close()
        self.caller.end()
        await self.threads.close()
        await self.planning.close()


def assemble(
    config: OptimizerConfig,
    finished: Callable[[SimbaError | None], None],
    on_stored: Callable[[Sequence[Event]], None],
    on_request: Callable[[Request], None],
    digests: ExampleDigests | None = None,
) -> AssembledRun:
    """Return the parts of the run that `config` describes. Rollouts run in the context of this call.

    Args:
        config: The settings of the run.
        finished: Called once: with None when the run has its result, or with the error that ended it.
        on_stored: Called with events after they are stored.
        on_request: Called with each request from another process.
        digests: Digests of the examples. Computed here if missing, which blocks for about a second per 50,000 examples.

    Raises:
        UnsupportedDSPyError: This version does not support the installed DSPy.
        NoLMError: A predictor has no LM and no default is set, or no LM writes rules.
    """
    check_dspy()
    space = config.space or ConfigurationSpace.from_module(config.student, optimize=config.optimize)
    student = space.extract(config.student)
    lms = _model_pool(config)
    parts = fingerprint(config, digests or ExampleDigests.of(config), student, lms, space)
    strategies = {strategy.name: strategy for strategy in config.chosen_strategies()}
    policy = policy_of(config, lms, tuple(strategies))
    run = NewRun(
        config.run_id or default_run_id(config, parts),
        parts,
        _shown_settings(config, policy),
        _prompts(config.student),
    )
    owner, store, life = Owner.this_process(), checked_path(config.store), Life()
    teammates, gate, threads = Teammates(Registry()), Gate(), Threads()
    governor = config.governor or shared_governor()
    for lm in lms.values():
        accepted = lm.accepted_runs if isinstance(lm, RemoteLM) else config.max_concurrency
        governor.endpoint(endpoint_name(lm)).window.expect(min(config.max_concurrency, accepted))
    telemetry = telemetry_of(run.run_id, governor)

    budget = BudgetTracker(
        config.budget,
        reserve=lambda: teammates.commit([]),
        reserve_blocking=partial(reserve_call, store, run.run_id, owner),
    )

    lease, setting_aside, loop = Lease(LEASE_SECONDS), SettingAside(), asyncio.get_running_loop()

    def lost(error: LeaseLostError) -> None:
        gate.failure.set(error)
        finished(error)

    def check_owned() -> None:
        if isinstance(gate.failure.error, LeaseLostError):
            raise LMUnavailableError("another process owns the run: no more calls are sent") from gate.failure.error

    async def before_call(size: CallSize) -> None:
        check_owned()
        if lease.is_over:
            await teammates.commit([])  # Renews the lease, or ends the run in this process.
        await budget.before_call(size)
        check_owned()  # The loss may have become known meanwhile.

    def before_blocking_call(size: CallSize) -> None:
        check_owned()
        try:
            if lease.is_over:
                check_owner(store, run.run_id, owner)
            budget.before_blocking_call(size)
        except LeaseLostError as error:
            loop.call_soon_threadsafe(lost, error)
            raise LMUnavailableError(str(error)) from error
        except StoreError as error:
            raise LMUnavailableError(
                f"an LM call was not sent, because the store could not be asked first: {error}"
            ) from error

    coordinator = teammates.via(COORDINATOR)
    silence = Silence(
        begun=lambda reason: coordinator.cast_nowait(SilenceBegun(reason)),
        ended=lambda: coordinator.cast_nowait(SilenceEnded()),
    )

    def on_fault(fault: Fault) -> None:
        event = CallRetried(endpoint=fault.endpoint, error=fault.error, attempt=fault.attempt, delay=fault.delay)
        teammates.report(event)
        silence.failed(f"{fault.endpoint}: {fault.error}")

    def on_answer(entry: Mapping[str, Any]) -> None:
        silence.answered()
        budget.answered(*tokens(entry), reported_cost(entry), prompt_characters(entry), calls(entry))
        telemetry.lm_answered(entry)

    def stored(events: Sequence[Event]) -> None:
        telemetry.on_events(events)
        on_stored(events)

    caller = Caller(
        gate=gate,
        before_call=before_call,
        before_blocking_call=before_blocking_call,
        not_sent=budget.not_sent,
        on_fault=on_fault,
        on_answer=on_answer,
    )
    prompt_lm = governed(_prompt_lm(config, lms), governor, caller=caller, threads=threads)
    twins = Twins(governor, caller, threads)
    with telemetry.lm_calls():
        make_executor: ExecutorFactory = config.executor or LocalExecutor
        executor = make_executor(
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
            on_metric_error=config.on_metric_error,
        )
    planning = Threads(reserved_for=asyncio.get_running_loop())
    ending = Ending(
        teammates,
        policy=policy,
        objectives=config.objectives,
        budget=budget,
        failure=gate.failure,
        setting_aside=setting_aside,
        secrets=governor.secrets,
        threads=planning,
        finished=finished,
    )

    def spec(name: str, **dependencies: Any) -> ChildSpec:
        start = partial(TEAM[name].start_link, teammates, name=name, registry=teammates.registry, **dependencies)
        return ChildSpec(name, start)

    team = [
        spec(
            POOL_KEEPER,
            path=store,
            run=run,
            owner=owner,
            life=life,
            student=student,
            space=space,
            budget=budget,
            trouble=gate.store_trouble,
            lease=lease,
            lost=lost,
            telemetry=telemetry,
            on_stored=stored,
            on_request=on_request,
        ),
        spec(
            SAMPLER,
            executor=executor,
            max_concurrency=config.max_concurrency,
            budget=budget,
            gate=gate,
            setting_aside=setting_aside,
            telemetry=telemetry,
        ),
        spec(ANALYZER),
        spec(
            PROPOSER,
            policy=policy,
            strategies=strategies,
            student=config.student,
            space=space,
            trainset=config.trainset,
            prompt_model=lambda: LocalPromptModel(prompt_lm, governor.secrets, config.rollout_timeout, twins),
            secrets=governor.secrets,
            budget=budget,
            gate=gate,
            threads=planning,
            telemetry=telemetry,
        ),
        spec(
            PUBLISHER,
            store=store,
            run_id=run.run_id,
            channel=config.channel if config.publish == "best" else None,
            policy=policy,
            threads=planning,
        ),
        spec(
            COORDINATOR,
            run=run,
            student=student,
            unoptimized=space.unoptimized(config.student),
            life=life,
            policy=policy,
            ending=ending,
            setting_aside=setting_aside,
            budget=budget,
            stop_when=config.stop_when,
            max_steps=config.steps,
            pausing=gate.pausing,
            failure=gate.failure,
            resume_after=config.resume_after,
            renew_grace_period=governor.renew_grace_period,
            threads=planning,
        ),
    ]
    return AssembledRun(
        new=run,
        store=store,
        owner=owner,
        life=life,
        space=space,
        executor=executor,
        governor=governor,
        caller=caller,
        teammates=teammates,
        gate=gate,
        lease=lease,
        threads=threads,
        planning=planning,
        telemetry=telemetry,
        team=team,
    )


def policy_of(config: OptimizerConfig, lms: Mapping[str, Any], strategies: tuple[str, ...]) -> Policy:
    """Return the policy named in `config`, with its settings."""
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
        train_examples=_Texts(config.trainset),
        val_examples=_Texts(config.valset),
        rollouts=rollouts_expected(config),
        strategies=strategies,
        predictors=len(config.student.predictors()),
        other_lms=tuple(name for name in lms if name != STUDENT_LM),
        concurrency=config.max_concurrency,
    )


class _Texts(Sequence[ExampleText]):
    """The text of examples, made on access, since the search uses only a sample of a large trainset."""

    def __init__(self, examples: Sequence[dspy.Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> ExampleText: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ExampleText]: ...
    def __getitem__(self, index: int | slice) -> ExampleText | Sequence[ExampleText]:
        if isinstance(index, slice):
            return _Texts(self._examples[index])
        example = self._examples[index]
        values = cast("list[tuple[str, object]]", cast("Any", example).items())
        fields = {name: str(to_json_value(value)) for name, value in values}
        labels = {name: fields[name] for name in cast("list[str]", cast("Any", example).labels().keys())}
        return ExampleText(" ".join(fields.values()), labels)


def _model_pool(config: OptimizerConfig) -> dict[str, Any]:
    """Return the LMs that sample trajectories, by name, the student's first."""
    lms = {STUDENT_LM: student_lm(config.student, config.lm)}
    if config.teacher_lm is not None:
        lms["teacher"] = config.teacher_lm
    return {**lms, **config.sampling_lms}


def student_lm(student: dspy.Module, lm: dspy.BaseLM | None) -> Any:
    """Return the LM of predictors without one of their own: `lm`, the LM of `dspy.settings`, or any predictor's.

    That of a remote student is its own, where it runs.

    Raises:
        NoLMError: There is no such LM.
    """
    settings: Any = dspy.settings
    own = [predictor.lm for predictor in student.predictors()]
    if own and all(isinstance(each, RemoteLM) for each in own):
        return own[0]
    found = lm or settings.lm or next((each for each in own if each is not None), None)
    if found is None:
        raise NoLMError(
            "no LM is set for the student: pass lm=dspy.LM(…), set one with dspy.configure(lm=…) or "
            "dspy.context(lm=…), or give each predictor an LM"
        )
    return found


def _prompt_lm(config: OptimizerConfig, lms: Mapping[str, Any]) -> Any:
    """Return the LM that writes rules. Raise NoLMError if there is none within reach, and a strategy needs it."""
    settings: Any = dspy.settings
    lm = config.prompt_model or settings.lm or config.lm or lms[STUDENT_LM]
    writers = [strategy.name for strategy in config.chosen_strategies() if isinstance(strategy, RULE_WRITERS)]
    if isinstance(lm, RemoteLM) and writers:
        raise NoLMError(
            f"no LM is set that writes rules, as {', '.join(writers)} need, and that of a remote student is out of "
            "reach: pass prompt_model=dspy.LM(…), set an LM with dspy.configure(lm=…), or pass strategies without rules"
        )
    return lm


def rollouts_expected(config: OptimizerConfig) -> int:
    """Return the number of rollouts that the run is expected to make.

    It is what `dspy.SIMBA` makes with all its steps, candidates and finalists. If the budget caps calls, the adaptive
    policy makes as many as the cap allows.
    """
    calls = config.budget.max_calls
    if config.policy == "adaptive" and calls is not None:
        return max(1, calls // len(config.student.predictors()))
    candidates = config.num_candidates + 1
    a_step = config.bsize * (config.num_candidates + candidates)
    return (config.max_steps or STEPS["dspy"]) * a_step + candidates * len(config.trainset)


def _first_rollout_id(student: dspy.Module, default: Any) -> int:
    """Return the rollout id of the LM that `dspy.SIMBA` would copy, from which its copies count."""
    own = {id(predictor.lm): predictor.lm for predictor in student.predictors()}
    lm = (next(iter(own.values())) if len(own) == 1 else None) or default
    return int(lm.kwargs.get("rollout_id") or 0)


def _prompts(student: dspy.Module) -> dict[str, JSON]:
    """Return how DSPy writes the prompts of the student's predictors, with which the store can show them."""
    settings: Any = dspy.settings
    predictors = cast("list[tuple[str, Any]]", student.named_predictors())
    return prompt_templates(dict(predictors), settings.adapter or dspy.ChatAdapter())


def _shown_settings(config: OptimizerConfig, policy: Policy) -> dict[str, JSON]:
    """Return the settings that `simba-actors show` and the dashboard display."""
    return {
        **{name: getattr(config, name) for name in SEARCH_SETTINGS},
        "max_steps": config.steps,
        "max_concurrency": config.max_concurrency,
        "steps_at_once": policy.steps_at_once(policy.initial_state()),
        "rollout_timeout": config.rollout_timeout,
        "budget": asdict(config.budget),
    }
