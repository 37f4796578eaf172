"""Assembly of a run: its actors and their dependencies, made from an OptimizerConfig."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from simba_actors.actors import ChildSpec, GenServer, Registry
from simba_actors.bridge.remote_lm import RemoteLM
from simba_actors.config import OptimizerConfig
from simba_actors.errors import ConfigError, LeaseLostError, SimbaError
from simba_actors.evaluation.executor import Executor, ExecutorArguments, LocalExecutor
from simba_actors.events import Event
from simba_actors.hosting.call_hooks import CallHooks
from simba_actors.hosting.preparation import Preparation
from simba_actors.lm.access import endpoint_name
from simba_actors.lm.budget import BudgetTracker
from simba_actors.lm.governed_lm import Twins, governed
from simba_actors.lm.governor import Caller, Governor, shared_governor
from simba_actors.lm.prompt_model import LocalPromptModel
from simba_actors.observe.telemetry import Telemetry, telemetry_of
from simba_actors.programs import ConfigurationSpace
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads
from simba_actors.store import Owner
from simba_actors.store.opening import checked_path
from simba_actors.store.ownership import LEASE_SECONDS, reserve_call
from simba_actors.store.records import NewRun, Request
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
from simba_actors.team.run_state import Claim, Gate, Lease
from simba_actors.team.sampler import Sampler
from simba_actors.team.setting_aside import SettingAside

logger = get_logger(__name__)

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
    claim: Claim
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
        try:
            await self.executor.close()
        finally:  # An executor of the user's may fail to close.
            self.caller.end()
            await self.threads.close()
            await self.planning.close()


def assemble(
    config: OptimizerConfig,
    finished: Callable[[SimbaError | None], None],
    on_stored: Callable[[Sequence[Event]], None],
    on_request: Callable[[Request], None],
    preparation: Preparation | None = None,
) -> AssembledRun:
    """Return the parts of the run that `config` describes. Rollouts run in the context of this call.

    Args:
        config: The settings of the run.
        finished: Called once: with None when the run has its result, or with the error that ended it.
        on_stored: Called with events after they are stored.
        on_request: Called with each request from another process.
        preparation: That of `config`. Made here if missing, which blocks.

    Raises:
        NoLMError: A predictor has no LM and no default is set, or no LM writes rules.
    """
    if sys.flags.optimize > 1:
        logger.warning(
            "Python's option -OO (PYTHONOPTIMIZE=2) removes docstrings, which are the instructions of signatures that "
            "are classes, such as those that ask for rules: prompts are worse than without it. Use -O instead"
        )
    return _Assembly(config, finished, on_stored, on_request, preparation or Preparation.of(config)).run()


class _Assembly:
    """Makes the parts of one run, each from those before it."""

    def __init__(
        self,
        config: OptimizerConfig,
        finished: Callable[[SimbaError | None], None],
        on_stored: Callable[[Sequence[Event]], None],
        on_request: Callable[[Request], None],
        preparation: Preparation,
    ) -> None:
        self._config, self._preparation = config, preparation
        self._new, self._space, self._policy = preparation.new, preparation.space, preparation.policy
        self._owner, self._store, self._claim = Owner.this_process(), checked_path(config.store), Claim()
        self._teammates, self._gate, self._threads = Teammates(Registry()), Gate(), Threads()
        self._governor = config.governor or shared_governor()
        self._expect_concurrency()
        self._telemetry = telemetry_of(self._new.run_id, self._governor)
        self._budget = BudgetTracker(
            config.budget,
            reserve=partial(self._teammates.commit, []),
            reserve_blocking=partial(reserve_call, self._store, self._new.run_id, self._owner),
        )
        self._lease, self._setting_aside = Lease(LEASE_SECONDS), SettingAside(self._governor.answers)
        self._finished, self._on_request = finished, on_request
        self._lost = partial(_lose, self._gate, finished)
        self._on_stored = partial(_notify, self._telemetry, on_stored)
        self._caller = self._hooks()
        self._rule_writer = governed(
            preparation.rule_writer, self._governor, caller=self._caller, threads=self._threads
        )
        self._executor = self._make_executor()
        self._planning = Threads(reserved_for=asyncio.get_running_loop())

    def run(self) -> AssembledRun:
        """Return the parts."""
        return AssembledRun(
            new=self._new,
            store=self._store,
            owner=self._owner,
            claim=self._claim,
            space=self._space,
            executor=self._executor,
            governor=self._governor,
            caller=self._caller,
            teammates=self._teammates,
            gate=self._gate,
            lease=self._lease,
            threads=self._threads,
            planning=self._planning,
            telemetry=self._telemetry,
            team=[
                self._pool_keeper(),
                self._sampler(),
                self._spec(ANALYZER),
                self._proposer(),
                self._publisher(),
                self._coordinator(),
            ],
        )

    def _expect_concurrency(self) -> None:
        """Let each endpoint start with as many calls as the user expects it to accept."""
        most = self._config.max_concurrency
        for lm in self._preparation.lms.values():
            accepted = lm.accepted_runs if isinstance(lm, RemoteLM) else most
            self._governor.endpoint(endpoint_name(lm)).window.expect(min(most, accepted))

    def _hooks(self) -> Caller:
        return CallHooks(
            run_id=self._new.run_id,
            store=self._store,
            owner=self._owner,
            lease=self._lease,
            lost=self._lost,
            budget=self._budget,
            gate=self._gate,
            teammates=self._teammates,
            telemetry=self._telemetry,
        ).caller()

    def _make_executor(self) -> Executor:
        config = self._config
        with self._telemetry.lm_calls():
            arguments = ExecutorArguments(
                student=config.student,
                space=self._space,
                examples={"train": config.trainset, "val": config.valset},
                metric=config.metric,
                lms=self._preparation.lms,
                governor=self._governor,
                caller=self._caller,
                threads=self._threads,
                objectives=config.objectives,
                rollout_timeout=config.rollout_timeout,
                on_metric_error=config.on_metric_error,
            )
            if config.executor is None:
                return LocalExecutor(**arguments, copy=self._preparation.copy)
            made = config.executor(**arguments)
        if not isinstance(cast("Any", made), Executor):
            raise ConfigError(
                f"executor={config.executor!r:.80} returned {made!r:.80}, which runs no rollouts: let it return an "
                "object with the methods of simba_actors.evaluation.executor.Executor"
            )
        return made

    # ── the team ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _spec(self, name: str, **dependencies: Any) -> ChildSpec:
        """Return the child specification of the actor with that name."""
        registry = self._teammates.registry
        return ChildSpec(
            name, partial(TEAM[name].start_link, self._teammates, name=name, registry=registry, **dependencies)
        )

    def _pool_keeper(self) -> ChildSpec:
        return self._spec(
            POOL_KEEPER,
            path=self._store,
            run=self._new,
            owner=self._owner,
            claim=self._claim,
            student=self._preparation.student,
            space=self._space,
            budget=self._budget,
            trouble=self._gate.store_trouble,
            lease=self._lease,
            lost=self._lost,
            telemetry=self._telemetry,
            on_stored=self._on_stored,
            on_request=self._on_request,
        )

    def _sampler(self) -> ChildSpec:
        return self._spec(
            SAMPLER,
            executor=self._executor,
            max_concurrency=self._config.max_concurrency,
            budget=self._budget,
            gate=self._gate,
            setting_aside=self._setting_aside,
            telemetry=self._telemetry,
        )

    def _proposer(self) -> ChildSpec:
        twins = Twins(self._governor, self._caller, self._threads)
        secrets, timeout = self._governor.secrets, self._config.rollout_timeout
        return self._spec(
            PROPOSER,
            policy=self._policy,
            strategies=self._preparation.strategies,
            student=self._config.student,
            configuration=self._preparation.student,
            space=self._space,
            trainset=self._config.trainset,
            prompt_model=partial(LocalPromptModel, self._rule_writer, secrets, timeout, twins),
            secrets=secrets,
            budget=self._budget,
            gate=self._gate,
            threads=self._planning,
            telemetry=self._telemetry,
            answers=self._governor.answers,
        )

    def _publisher(self) -> ChildSpec:
        return self._spec(
            PUBLISHER,
            store=self._store,
            run_id=self._new.run_id,
            channel=self._config.channel if self._config.publish == "best" else None,
            policy=self._policy,
            threads=self._planning,
        )

    def _coordinator(self) -> ChildSpec:
        config = self._config
        ending = Ending(
            self._teammates,
            run_id=self._new.run_id,
            policy=self._policy,
            objectives=config.objectives,
            budget=self._budget,
            failure=self._gate.failure,
            setting_aside=self._setting_aside,
            secrets=self._governor.secrets,
            threads=self._planning,
            finished=self._finished,
        )
        return self._spec(
            COORDINATOR,
            run=self._new,
            student=self._preparation.student,
            unoptimized=self._preparation.unoptimized,
            claim=self._claim,
            policy=self._policy,
            ending=ending,
            setting_aside=self._setting_aside,
            budget=self._budget,
            stop_when=config.stop_when,
            max_steps=config.steps,
            pausing=self._gate.pausing,
            failure=self._gate.failure,
            resume_after=config.resume_after,
            renew_grace_period=self._governor.renew_grace_period,
            threads=self._planning,
        )


def _lose(gate: Gate, finished: Callable[[SimbaError | None], None], error: LeaseLostError) -> None:
    """Stop LM work and end the run in this process, since another process owns it now."""
    gate.failure.set(error)
    finished(error)


def _notify(telemetry: Telemetry, on_stored: Callable[[Sequence[Event]], None], events: Sequence[Event]) -> None:
    telemetry.on_events(events)
    on_stored(events)
