"""The Proposer: applies strategies to a step's buckets, several at a time, to make new configurations."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import dspy

from simba_actors.actors import CastReturn, ExitReason, GenServer, InitReturn, spawn_link
from simba_actors.errors import BudgetReachedError, InfrastructureError
from simba_actors.events import CandidateProposed, Event, StrategyApplied, StrategyDeclined
from simba_actors.lm.budget import BudgetTracker
from simba_actors.lm.prompt_model import LocalPromptModel
from simba_actors.lm.secrets import Secrets
from simba_actors.observe.telemetry import Telemetry
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.runtime.exception_isolation import isolated
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads
from simba_actors.search.buckets import Bucket
from simba_actors.search.policy import Policy, Proposal, TriedStep
from simba_actors.search.rollout import Rollout
from simba_actors.store.records import Program, RecordProposal
from simba_actors.strategies import Declined, Strategy, StrategyContext
from simba_actors.team.messages import (
    COORDINATOR,
    POOL_KEEPER,
    PROPOSER,
    SAMPLER,
    Analyzed,
    BudgetSpent,
    Drain,
    Drained,
    Proposed,
    ReadBuckets,
    ReadProposals,
    RunProgram,
    Teammates,
)
from simba_actors.team.pool_view import PoolView
from simba_actors.team.run_state import Gate
from simba_actors.team.setting_aside import TRIES

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StrategyOutcome:
    """Result of applying a proposal's strategies: a configuration, the reasons why they declined, or both."""

    strategy: str
    configuration: Configuration | None
    reason: str | None


@dataclass(slots=True)
class ProposerState:
    """The steps and strategies that are being worked on."""

    steps: set[int] = field(default_factory=set[int])
    """Steps that are being worked on, so that none is worked on twice at the same time."""
    asked_again: set[int] = field(default_factory=set[int])
    """Steps of `steps` that were analyzed again meanwhile, for a restarted Coordinator that misses their candidates."""
    applying: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    """Step and index of each proposal that may have called an LM and whose outcome is not stored yet."""
    draining: bool = False
    """Whether the Coordinator waits for `applying` to be empty."""
    drained: bool = False
    """Whether the Coordinator knows that `applying` is empty. It ends the run, so other results would be lost."""
    is_answered: bool = False
    """Whether the prompt model has answered a strategy in this process."""
    failures: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """How often a strategy failed with an error of that name in this process."""


class Proposer(GenServer[ProposerState]):
    """Works on each step in a process of its own."""

    def __init__(
        self,
        teammates: Teammates,
        *,
        policy: Policy,
        strategies: Mapping[str, Strategy],
        student: dspy.Module,
        configuration: Configuration,
        space: ConfigurationSpace,
        trainset: Sequence[dspy.Example],
        prompt_model: Callable[[], LocalPromptModel],
        secrets: Secrets,
        budget: BudgetTracker,
        gate: Gate,
        threads: Threads,
        telemetry: Telemetry,
        answers: Callable[[], Mapping[str, int]],
    ) -> None:
        self._teammates = teammates
        self._policy = policy
        self._strategies = strategies
        self._student = student
        self._configuration = configuration
        self._space = space
        self._trainset = trainset
        self._prompt_model = prompt_model  # One for each application of a strategy, to tell their usage apart.
        self._secrets = secrets
        self._budget = budget
        self._gate = gate
        self._threads = threads
        self._telemetry = telemetry
        self._answers = answers  # How many calls each endpoint has answered.

    async def init(self) -> InitReturn:
        self.state = ProposerState()
        return None

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case Analyzed(plan=plan) if plan.step in self.state.steps:
                self.state.asked_again.add(plan.step)
                return None
            case Analyzed(plan=plan):
                self.state.steps.add(plan.step)
                spawn_link(self._propose, message, name=f"proposals of step {plan.step}")
                return None
            case Drain():
                self.state.draining = True
                self._tell_if_drained()
                return None
            case _:
                return await super().handle_cast(message)

    def format_state(self) -> str:
        steps = ", ".join(str(step + 1) for step in sorted(self.state.steps))
        return f"working on step {steps}" if steps else "no step to work on"

    async def terminate(self, reason: ExitReason) -> None:
        for (strategy, kind), count in self.state.failures.items():
            if count > 1:
                logger.warning("strategy %s failed %d times with %s", strategy, count, kind)

    def _tell_if_drained(self) -> None:
        if self.state.draining and not self.state.applying:
            self.state.draining, self.state.drained = False, True
            self._teammates.via(COORDINATOR).cast_nowait(Drained(PROPOSER))

    def _applied(self, step: int, index: int) -> None:
        self.state.applying.discard((step, index))
        self._tell_if_drained()

    async def _propose(self, analyzed: Analyzed) -> None:
        """Apply all proposals of a step at the same time. For one that makes no program, the policy may add another."""
        policy, plan = self._policy, analyzed.plan
        pool = (await self._teammates.pool()).before(plan.pool_end)
        stored = await self._teammates.via(POOL_KEEPER).call(ReadProposals(plan.step), timeout=None)
        known = {record.index: record.program for record in stored}
        made: dict[int, int | None] = {}
        fresh: dict[int, tuple[Rollout, ...]] = {}
        ended: asyncio.Queue[int] = asyncio.Queue()

        async def make(proposal: Proposal) -> None:
            if proposal.index in known:
                made[proposal.index] = known[proposal.index]
            else:
                made[proposal.index], fresh[proposal.index] = await self._apply(analyzed, proposal, pool)
            ended.put_nowait(proposal.index)

        async def plan_more(proposals: Sequence[Proposal], failed: int) -> tuple[Proposal, ...]:
            """Return all proposals, given that `failed` of them made no program, and start the new ones."""
            planned = await self._threads.run(lambda: policy.proposals(plan, analyzed.buckets, failed, pool))
            for proposal in planned[len(proposals) :]:
                tasks.start_soon(make, proposal)
                await asyncio.sleep(0)
            return planned

        proposals: tuple[Proposal, ...] = ()
        async with anyio.create_task_group() as tasks:
            done = failed = 0
            proposals = await plan_more(proposals, failed)
            while done < len(proposals):
                program = made[index := await ended.get()]
                done += 1
                if program is None:
                    failed += 1
                    proposals = await plan_more(proposals, failed)
                else:
                    await self._teammates.via(SAMPLER).cast(
                        RunProgram(plan.step, "evaluate", program, fresh=fresh.get(index))
                    )
        candidates = tuple(program for _, program in sorted(made.items()) if program is not None)
        self.state.steps.discard(plan.step)
        if plan.step in self.state.asked_again:
            self.state.asked_again.discard(plan.step)
            for program in candidates:
                await self._teammates.via(SAMPLER).cast(RunProgram(plan.step, "evaluate", program))
        sampled_mean = analyzed.statistics.sampled_mean
        await self._teammates.via(COORDINATOR).cast(Proposed(TriedStep(plan, proposals, candidates), sampled_mean))

    async def _apply(
        self, analyzed: Analyzed, proposal: Proposal, pool: PoolView
    ) -> tuple[int | None, tuple[Rollout, ...]]:
        """Make and store the proposal's program. Return its number, or None, and the rollouts to evaluate it on.

        The rollouts are stored in the same transaction.
        """
        policy, plan = self._policy, analyzed.plan
        prompt_model = self._prompt_model()
        read = ReadBuckets(plan.step, proposal.examples)
        known = await self._teammates.via(POOL_KEEPER).call(read, timeout=None)
        buckets = tuple(known[example] for example in proposal.examples if example in known)
        outcome = await self._try_strategies(analyzed, proposal, buckets, pool, prompt_model)
        configuration = outcome.configuration
        if outcome.reason is None and prompt_model.usage.calls > 0:
            self.state.is_answered = True
        program = None
        if configuration is not None:
            program = Program(
                proposal.program,
                configuration.digest,
                configuration.to_json(),
                (pool.donors(proposal.parts) if proposal.parts else ()) or (proposal.source,),
                outcome.strategy,
                plan.step,
                _provenance(proposal, buckets),
            )
        rollouts = () if program is None else policy.evaluation(plan, proposal, pool)
        write = RecordProposal(
            plan.step, proposal.index, proposal.to_json(), program, outcome.reason, prompt_model.usage, rollouts
        )
        events = _events(plan.step, proposal, outcome, program)
        await self._teammates.commit([write], events)
        self._applied(plan.step, proposal.index)
        return (None if program is None else program.number), tuple(rollouts)

    async def _try_strategies(
        self, analyzed: Analyzed, proposal: Proposal, buckets: tuple[Bucket, ...], pool: PoolView, prompt_model: Any
    ) -> StrategyOutcome:
        copies = self._policy.declined_makes_a_copy
        source = pool.configurations[proposal.source] if proposal.parts is None else pool.combine(proposal.parts)
        source = source.without_demos(proposal.drop)
        context = StrategyContext(
            source,
            self._configuration,
            lambda: self._space.apply(source, self._student),
            buckets,
            tuple(self._trainset[example] for example in proposal.examples),
            analyzed.statistics,
            prompt_model,
            combined=proposal.parts is not None,
            in_thread=self._threads.run,
        )
        name, reasons = proposal.strategies[0], list[str]()
        for name in proposal.strategies:
            try:
                with self._telemetry.strategy(name, analyzed.plan.step, proposal.program, buckets):
                    result = await self._try(name, context, analyzed.plan.step, proposal.index)
                if not isinstance(result, Declined):
                    result.check_json()
            except Exception as error:  # noqa: BLE001 - as in DSPy, a strategy that fails makes no candidate
                reason = self._secrets.describe(error)
                self._warn(name, reason)
                return StrategyOutcome(name, None, reason)
            if isinstance(result, Declined):
                reasons.append(result.reason)
            elif not copies and pool.has(result):
                reasons.append("the pool has the same program already")
            else:
                return StrategyOutcome(name, result, None)
        return StrategyOutcome(name, source if copies else None, "; ".join(reasons))

    def _warn(self, strategy: str, reason: str) -> None:
        """Log the first failure of each kind. It may recur in each of thousands of proposals."""
        kind = strategy, reason.partition(":")[0]
        self.state.failures[kind] += 1
        if self.state.failures[kind] == 1:
            logger.warning(
                "a proposal makes no program (logged once for each kind of error; StrategyDeclined events have all): "
                "strategy %s failed: %s",
                strategy,
                reason,
            )

    async def _try(self, name: str, context: StrategyContext, step: int, index: int) -> Configuration | Declined:
        """Return the strategy's answer. After an outage, wait until the run is resumed and ask again.

        If its LM answers others, the prompt is to blame: the provider never answers it, or always with an error.
        """
        strategy, gate = self._strategies[name], self._gate
        declined = await self._threads.run(lambda: strategy.applicable(context))
        if declined is not None:
            return declined
        answers, tries = self._answers(), 0
        while True:
            await gate.passed()
            epoch = gate.pausing.epoch
            if self.state.drained:
                await asyncio.Event().wait()
            try:
                self._budget.check()
                self.state.applying.add((step, index))
                return await isolated(strategy.apply(context))
            except BudgetReachedError as error:
                self._teammates.via(COORDINATOR).cast_nowait(BudgetSpent(error.cap))
                self._applied(step, index)
                await asyncio.Event().wait()  # The proposal stays planned, for a run with a larger budget.
            except InfrastructureError as error:
                place, before, answers = error.endpoint or "", answers, self._answers()
                if self.state.is_answered and answers.get(place, 0) > before.get(place, 0):
                    tries += 1
                else:
                    self._teammates.report_outage(error, epoch, gate.pausing, f"strategy {name}")
                if tries == TRIES:
                    raise
                self._applied(step, index)


def _provenance(proposal: Proposal, buckets: Sequence[Bucket]) -> dict[str, Any]:
    """Return the evidence for a program: the rollouts with the best and the worst score of each bucket."""
    return {
        "examples": list(proposal.examples),
        "dropped_demos": list(proposal.drop),
        "combined_parts": None if proposal.parts is None else list(proposal.parts),
        "rollouts": [[bucket.best.rollout.key.position, bucket.worst.rollout.key.position] for bucket in buckets],
    }


def _events(step: int, proposal: Proposal, outcome: StrategyOutcome, program: Program | None) -> tuple[Event, ...]:
    events: list[Event] = []
    if outcome.reason is None:
        events.append(
            StrategyApplied(step=step, index=proposal.index, strategy=outcome.strategy, program=proposal.program)
        )
    else:
        events.append(
            StrategyDeclined(step=step, index=proposal.index, strategy=outcome.strategy, reason=outcome.reason)
        )
    if program is not None:
        events.append(
            CandidateProposed(step=step, program=program.number, parents=program.parents, strategy=program.strategy)
        )
    return tuple(events)
