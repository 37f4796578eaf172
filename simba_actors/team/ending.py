"""How a run ends: with its winner chosen, for want of a budget, or with an error that is the user's to mend."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

import anyio

from simba_actors.actors import spawn_link
from simba_actors.errors import SimbaError
from simba_actors.events import BudgetReached, RunFailed, RunFinished
from simba_actors.search.objectives import Objectives
from simba_actors.search.plan import FINAL_STEP, Rollout
from simba_actors.search.trajectory import JSON
from simba_actors.store.records import AddRollouts, Run, SetStatus
from simba_actors.team.coordinator_state import CoordinatorState
from simba_actors.team.messages import BudgetSpent, Drain, PublishBest, ReadObjectives, ReadRollouts, RunProgram
from simba_actors.team.pool_view import PoolView
from simba_actors.team.setup import COORDINATOR, POOL_KEEPER, PROPOSER, PUBLISHER, SAMPLER, RunSetup

logger = logging.getLogger(__name__)

LEAST_WAIT = 0.1
"""Seconds between looks at the budget's clock, which stands still while the run is paused."""


class Ending:
    """What the Coordinator does when there is no more step to open, and when there can be none."""

    def __init__(self, setup: RunSetup, state: CoordinatorState) -> None:
        self._setup = setup
        self._state = state

    async def choose_winner(self, ended_by: str) -> None:
        """Runs what is missing to choose the winner, and ends the run when nothing is."""
        state, policy, pool = self._state, self._setup.policy, await self._setup.pool()
        state.ended_by = ended_by
        rollouts = await self._final_rollouts_left()
        if not rollouts:
            rollouts = await self._setup.threads.run(
                lambda: policy.final_rollouts(state.policy_state, state.evidence, pool)
            )
        if rollouts:
            await self._setup.commit([AddRollouts(rollouts)])
            state.finalists = {rollout.program for rollout in rollouts}
            for job in RunProgram.jobs(rollouts, only=state.finalists):
                await self._setup.via(SAMPLER).cast(job)
            return
        await self._finish(ended_by)

    async def scored(self, program: int) -> None:
        """The final rollouts of a program are in."""
        finalists = self._state.finalists
        if program in finalists:
            finalists.discard(program)
            if not finalists:
                await self.choose_winner(self._state.ended_by)

    def may_go_on(self, run: Run) -> bool:
        """Whether the run ended for want of a budget that it has by now."""
        return cast("dict[str, JSON]", run.result).get("cap") is not None and self._setup.purse.reached() is None

    async def with_result(self) -> None:
        """The run has its result; who waits for it finds it published, if it is to be."""
        await self._setup.via(PUBLISHER).call(PublishBest(), timeout=None)
        self._end(None)

    async def with_error(self, error: SimbaError) -> None:
        if self._state.finished:
            return
        self._setup.gate.fail(error)
        reason = self._setup.governor.secrets.hide(str(error))
        await self._setup.commit([SetStatus("failed", reason)], [RunFailed(reason=reason)])
        self._end(error)

    def watch_clock(self) -> None:
        """Workers look at the budget's clock when they start a rollout; where all of them hang, nobody else does."""
        if self._setup.purse.budget.max_seconds is not None:
            spawn_link(self._until_a_cap_is_reached, name="clock of the budget")

    async def budget_spent(self, cap: str) -> None:
        """Waits for the work in flight, and ends the run when that is over."""
        state = self._state
        if state.finished or state.spent is not None:
            return
        state.spent = cap
        limit = float(getattr(self._setup.purse.budget, cap))
        await self._setup.commit([], [BudgetReached(cap=cap, limit=limit)])
        state.draining = {PROPOSER, SAMPLER}
        for actor in sorted(state.draining):
            await self._setup.via(actor).cast(Drain())

    async def drained(self, actor: str) -> None:
        state = self._state
        state.draining.discard(actor)
        if not state.draining and state.spent is not None and not state.finished:
            reason = f"the budget's {state.spent} is reached; started with a larger one, the run goes on"
            await self._finish(reason, state.spent)

    async def _until_a_cap_is_reached(self) -> None:
        purse = self._setup.purse
        while (cap := purse.reached()) is None:  # noqa: ASYNC110 - a clock that stands still in pauses has no event
            await anyio.sleep(max(LEAST_WAIT, purse.seconds_left))
        self._setup.via(COORDINATOR).cast_nowait(BudgetSpent(cap))

    async def _final_rollouts_left(self) -> tuple[Rollout, ...]:
        """Those that an earlier life planned and did not bring to an end: the policy has decided nothing since."""
        if not self._state.recalled:
            return ()
        self._state.recalled = False
        records = await self._setup.via(POOL_KEEPER).call(ReadRollouts(FINAL_STEP, "final"), timeout=None)
        return tuple(record.rollout for record in records if record.trajectory is None)

    async def _finish(self, reason: str, cap: str | None = None) -> None:
        """Ends the run with the best program known; `cap` is what of its budget kept it from knowing more."""
        state, policy, pool = self._state, self._setup.policy, await self._setup.pool()
        ranking = await self._setup.threads.run(lambda: policy.ranking(state.policy_state, state.evidence, pool))
        result: dict[str, JSON] = {"cap": cap}
        if self._setup.objectives is not None:
            scores = await self._scores_by_objective(self._setup.objectives, [program for program, _ in ranking], pool)
            ranking = self._setup.objectives.choose(ranking, scores)
            result["scores"] = [[program, dict(scores[program])] for program, _ in ranking]
        result["ranking"] = [[program, mean] for program, mean in ranking]
        winner, score = ranking[0]
        event = RunFinished(program=winner, score=score, reason=reason)
        await self._setup.commit([SetStatus("finished", reason, result)], [event])
        logger.info("finished: program %d with %.3f; %s", winner, score, reason)
        await self.with_result()

    async def _scores_by_objective(
        self, objectives: Objectives, programs: Sequence[int], pool: PoolView
    ) -> dict[int, dict[str, float]]:
        """What the finalists are expected to score by each objective."""
        policy = self._setup.policy
        known = await self._setup.via(POOL_KEEPER).call(ReadObjectives(objectives.names), timeout=None)
        estimates = await self._setup.threads.run(
            lambda: {name: policy.estimates(programs, evidence, pool) for name, evidence in known.items()}
        )
        return {program: {name: estimates[name][program] for name in objectives.names} for program in programs}

    def _end(self, error: SimbaError | None) -> None:
        self._state.finished = True
        self._setup.finished(error)
