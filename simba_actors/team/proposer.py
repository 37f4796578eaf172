"""Applies strategies to a step's buckets: new configurations, side by side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from simba_actors.actors import CastReturn, GenServer, InitReturn, spawn_link
from simba_actors.errors import BudgetReachedError, InfrastructureError
from simba_actors.events import CandidateProposed, Event, StrategyApplied, StrategyDeclined
from simba_actors.programs import Configuration
from simba_actors.runtime.exception_isolation import isolated
from simba_actors.search.plan import Rollout
from simba_actors.search.policy import Proposal
from simba_actors.store.records import Program, RecordProposal
from simba_actors.strategies import Declined, StrategyContext
from simba_actors.team.messages import (
    Analyzed,
    BudgetSpent,
    Drain,
    Drained,
    Proposed,
    ReadProposals,
    RunProgram,
)
from simba_actors.team.pool_view import PoolView
from simba_actors.team.setup import COORDINATOR, POOL_KEEPER, PROPOSER, SAMPLER, RunSetup

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What applying a proposal's strategies came to: a configuration, a reason why the strategies declined, or both."""

    strategy: str
    configuration: Configuration | None
    reason: str | None


@dataclass(slots=True)
class ProposerState:
    """`steps` are being worked on, so that none is twice at the same time; `applying` has the step and slot of each
    strategy that may have called an LM and whose outcome is not stored yet.

    `asked_again` has those of `steps` that were analyzed again meanwhile: for a Coordinator that knows nothing of their
    candidates. `draining` is whether the Coordinator waits for `applying` to be empty.
    """

    steps: set[int] = field(default_factory=set[int])
    asked_again: set[int] = field(default_factory=set[int])
    applying: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    draining: bool = False


class Proposer(GenServer[ProposerState]):
    """Works on each step in a process of its own."""

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup

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
        steps = self.state.steps
        return f"working on steps {sorted(steps)}" if steps else "no step to work on"

    def _tell_if_drained(self) -> None:
        if self.state.draining and not self.state.applying:
            self.state.draining = False
            self._setup.via(COORDINATOR).cast_nowait(Drained(PROPOSER))

    def _applied(self, step: int, slot: int) -> None:
        self.state.applying.discard((step, slot))
        self._tell_if_drained()

    async def _propose(self, analyzed: Analyzed) -> None:
        """Applies all proposals of a step at the same time; one that makes no program may make room for another."""
        policy, plan, pool = self._setup.policy, analyzed.plan, await self._setup.pool()
        stored = await self._setup.via(POOL_KEEPER).call(ReadProposals(plan.step), timeout=None)
        known = {proposal.slot: proposal.program for proposal in stored}
        made: dict[int, int | None] = {}
        fresh: dict[int, tuple[Rollout, ...]] = {}
        ended: asyncio.Queue[int] = asyncio.Queue()

        async def one(proposal: Proposal) -> None:
            if proposal.index in known:
                made[proposal.index] = known[proposal.index]
            else:
                made[proposal.index], fresh[proposal.index] = await self._apply(analyzed, proposal, pool)
            ended.put_nowait(proposal.index)

        async def more(proposals: Sequence[Proposal], failed: int) -> tuple[Proposal, ...]:
            """All proposals, now that so many failed; those that are new are begun."""
            planned = await self._setup.threads.run(lambda: policy.proposals(plan, analyzed.buckets, failed, pool))
            for proposal in planned[len(proposals) :]:
                tasks.start_soon(one, proposal)
                await asyncio.sleep(0)  # The host's event loop turns in between.
            return planned

        proposals: tuple[Proposal, ...] = ()
        async with anyio.create_task_group() as tasks:
            told = failed = 0
            proposals = await more(proposals, failed)
            while told < len(proposals):
                program = made[slot := await ended.get()]
                told += 1
                if program is None:
                    failed += 1
                    proposals = await more(proposals, failed)
                else:
                    await self._setup.via(SAMPLER).cast(
                        RunProgram(plan.step, "evaluate", program, fresh=fresh.get(slot))
                    )
        candidates = tuple(program for _, program in sorted(made.items()) if program is not None)
        self.state.steps.discard(plan.step)
        if plan.step in self.state.asked_again:
            self.state.asked_again.discard(plan.step)
            for program in candidates:
                await self._setup.via(SAMPLER).cast(RunProgram(plan.step, "evaluate", program))
        baseline_score = analyzed.statistics.baseline_score
        await self._setup.via(COORDINATOR).cast(Proposed(plan, proposals, candidates, baseline_score))

    async def _apply(
        self, analyzed: Analyzed, proposal: Proposal, pool: PoolView
    ) -> tuple[int | None, tuple[Rollout, ...]]:
        """The number of the program that the proposal makes, None if it makes none, and the rollouts to evaluate it on.

        The program is stored with its evidence by then, and the rollouts are planned.
        """
        policy, plan = self._setup.policy, analyzed.plan
        prompt_model = self._setup.prompt_model()
        outcome = await self._try_strategies(analyzed, proposal, pool, prompt_model)
        configuration = outcome.configuration
        program = None
        if configuration is not None:
            program = Program(
                proposal.program,
                configuration.digest,
                configuration.to_json(),
                (pool.donors(proposal.parts) if proposal.parts else ()) or (proposal.source,),
                outcome.strategy,
                plan.step,
                _provenance(analyzed, proposal),
            )
        rollouts = () if program is None else policy.evaluation(plan, proposal, pool)
        write = RecordProposal(
            plan.step, proposal.index, proposal.to_json(), program, outcome.reason, prompt_model.usage, rollouts
        )
        events = _events(plan.step, proposal, outcome, program)
        await self._setup.commit([write], events)
        self._applied(plan.step, proposal.index)
        return (None if program is None else program.number), tuple(rollouts)

    async def _try_strategies(
        self, analyzed: Analyzed, proposal: Proposal, pool: PoolView, prompt_model: Any
    ) -> Outcome:
        copies = self._setup.policy.declined_makes_a_copy
        source = pool.configurations[proposal.source] if proposal.parts is None else pool.combine(proposal.parts)
        source = source.without_demos(proposal.drop)
        buckets = {bucket.example: bucket for bucket in analyzed.buckets}
        context = StrategyContext(
            source,
            self._setup.student_configuration,
            lambda: self._setup.space.apply(source, self._setup.student),
            tuple(buckets[example] for example in proposal.examples if example in buckets),
            tuple(self._setup.trainset[example] for example in proposal.examples),
            analyzed.statistics,
            prompt_model,
            combined=proposal.parts is not None,
        )
        name, reasons = proposal.strategies[0], list[str]()
        for name in proposal.strategies:
            try:
                with self._setup.telemetry.strategy(name, analyzed.plan.step, proposal.program, context.buckets):
                    result = await self._try(name, context, analyzed.plan.step, proposal.index)
                if not isinstance(result, Declined):
                    result.check_json()
            except Exception as error:  # noqa: BLE001 - as in DSPy, a strategy that fails makes no candidate
                told = self._setup.governor.secrets.describe(error)
                logger.warning("strategy %s failed: %s", name, told)
                return Outcome(name, None, told)
            if isinstance(result, Declined):
                reasons.append(result.reason)
            elif not copies and pool.has(result):
                reasons.append("the pool has the same program already")
            else:
                return Outcome(name, result, None)
        return Outcome(name, source if copies else None, "; ".join(reasons))

    async def _try(self, name: str, context: StrategyContext, step: int, slot: int) -> Configuration | Declined:
        """The strategy's answer, asked again after each pause that an outage brings."""
        strategy, gate = self._setup.strategies[name], self._setup.gate
        declined = strategy.applicable(context)
        if declined is not None:
            return declined
        while True:
            await gate.passed()
            opening = gate.openings
            try:
                self._setup.purse.check()
                self.state.applying.add((step, slot))
                return await isolated(strategy.apply(context))
            except BudgetReachedError as error:
                self._setup.via(COORDINATOR).cast_nowait(BudgetSpent(error.cap))
                self._applied(step, slot)
                await asyncio.Event().wait()  # It stays planned, for a life with a larger budget.
            except InfrastructureError as error:
                self._setup.tell_outage(error, opening)
                self._applied(step, slot)


def _provenance(analyzed: Analyzed, proposal: Proposal) -> dict[str, Any]:
    """The evidence that a program was made from: the rollouts with the best and the worst score of each bucket."""
    buckets = {bucket.example: bucket for bucket in analyzed.buckets}
    return {
        "examples": list(proposal.examples),
        "dropped_demos": list(proposal.drop),
        "combined_parts": None if proposal.parts is None else list(proposal.parts),
        "rollouts": [
            [buckets[example].best.rollout.key.position, buckets[example].worst.rollout.key.position]
            for example in proposal.examples
            if example in buckets
        ],
    }


def _events(step: int, proposal: Proposal, outcome: Outcome, program: Program | None) -> tuple[Event, ...]:
    events: list[Event] = []
    if outcome.reason is None:
        events.append(
            StrategyApplied(step=step, slot=proposal.index, strategy=outcome.strategy, program=proposal.program)
        )
    else:
        events.append(
            StrategyDeclined(step=step, slot=proposal.index, strategy=outcome.strategy, reason=outcome.reason)
        )
    if program is not None:
        events.append(
            CandidateProposed(step=step, program=program.number, parents=program.parents, strategy=program.strategy)
        )
    return tuple(events)
