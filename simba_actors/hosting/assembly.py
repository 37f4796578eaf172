"""Assembly of a run: its actors and their dependencies, made from an OptimizerConfig."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import dspy

from simba_actors.actors import ChildSpec, GenServer, Registry
from simba_actors.bridge.remote_lm import RemoteLM
from simba_actors.config import OptimizerConfig
from simba_actors.dspy_compat import check_dspy
from simba_actors.errors import LeaseLostError, SimbaError
from simba_actors.evaluation.executor import Executor, ExecutorArguments, LocalExecutor
from simba_actors.events import Event
from simba_actors.hosting.call_hooks import CallHooks
from simba_actors.hosting.fingerprint import (
    SEARCH_SETTINGS,
    ExampleDigests,
    default_run_id,
    fingerprint,
)
from simba_actors.hosting.lms import model_pool, prompt_lm
from simba_actors.hosting.policies import policy_of
from simba_actors.lm.budget import BudgetTracker
from simba_actors.lm.governed_lm import Twins, endpoint_name, governed
from simba_actors.lm.governor import Caller, Governor, shared_governor
from simba_actors.lm.prompt_model import LocalPromptModel
from simba_actors.observe.telemetry import Telemetry, telemetry_of
from simba_actors.programs import ConfigurationSpace
from simba_actors.programs.messages import prompt_templates
from simba_actors.runtime.threads import Threads
from simba_actors.search.policy import Policy
from simba_actors.search.rollout import JSON
from simba_actors.store import Owner
from simba_actors.store.opening import checked_path
from simba_actors.store.ownership import LEASE_SECONDS, reserve_call
from simba_actors.store.records import NewRun
from simba_actors.store.requests import Request
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
    Teammates,
)
from simba_actors.team.pool_keeper import PoolKeeper
from simba_actors.team.proposer import Proposer
from simba_actors.team.publisher import Publisher
from simba_actors.team.run_state import Gate, Lease, Life
from simba_actors.team.sampler import Sampler
from simba_actors.team.setting_aside import SettingAside

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
    lms = model_pool(config)
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

    lease, setting_aside = Lease(LEASE_SECONDS), SettingAside()

    def lost(error: LeaseLostError) -> None:
        gate.failure.set(error)
        finished(error)

    def stored(events: Sequence[Event]) -> None:
        telemetry.on_events(events)
        on_stored(events)

    caller = CallHooks(
        run_id=run.run_id,
        store=store,
        owner=owner,
        lease=lease,
        lost=lost,
        budget=budget,
        gate=gate,
        teammates=teammates,
        telemetry=telemetry,
    ).caller()
    rule_writer = governed(prompt_lm(config, lms), governor, caller=caller, threads=threads)
    twins = Twins(governor, caller, threads)
    with telemetry.lm_calls():
        arguments = ExecutorArguments(
            student=config.student,
            space=space,
            examples={"train": config.trainset, "val": config.valset},
            metric=config.metric,
            lms=lms,
            governor=governor,
            caller=caller,
            threads=threads,
            objectives=config.objectives,
            rollout_timeout=config.rollout_timeout,
            on_metric_error=config.on_metric_error,
        )
        executor = LocalExecutor(**arguments) if config.executor is None else config.executor(**arguments)
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
            prompt_model=lambda: LocalPromptModel(rule_writer, governor.secrets, config.rollout_timeout, twins),
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
