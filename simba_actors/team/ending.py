"""The end of a run: a winner, a spent budget, or an error that the user has to fix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from simba_actors.actors import spawn_link
from simba_actors.errors import MetricError, RunError, SimbaError
from simba_actors.events import BudgetReached, RunFailed, RunFinished
from simba_actors.lm.budget import BudgetTracker
from simba_actors.lm.secrets import Secrets
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads
from simba_actors.search.objectives import Objectives
from simba_actors.search.policy import Policy
from simba_actors.search.rollout import FINAL_STEP, JSON, Rollout
from simba_actors.store.records import AddRollouts, Run, SetStatus
from simba_actors.team.coordinator_state import CoordinatorState, Phase
from simba_actors.team.messages import (
    COORDINATOR,
    POOL_KEEPER,
    PROPOSER,
    PUBLISHER,
    SAMPLER,
    BudgetSpent,
    Drain,
    PublishBest,
    ReadObjectives,
    ReadRollouts,
    RunProgram,
    Teammates,
)
from simba_actors.team.run_state import Failure
from simba_actors.team.setting_aside import SettingAside

logger = get_logger(__name__)


class Ending:
    """Part of the Coordinator that acts when no more steps can or may be opened.

    `finished` is called once, with None when the run has its result or with the error that ended it.
    """

    def __init__(
        self,
        teammates: Teammates,
        *,
        run_id: str,
        policy: Policy,
        objectives: Objectives | None,
        budget: BudgetTracker,
        failure: Failure,
        setting_aside: SettingAside,
        secrets: Secrets,
        threads: Threads,
        finished: Callable[[SimbaError | None], None],
    ) -> None:
        self._teammates = teammates
        self._run_id = run_id
        self._policy = policy
        self._objectives = objectives
        self._budget = budget
        self._failure = failure
        self._setting_aside = setting_aside
        self._secrets = secrets
        self._threads = threads
        self._finished = finished

    async def choose_winner(self, state: CoordinatorState, ended_by: str) -> None:
        """Run the rollouts that are still needed to choose the winner. If there are none, end the run."""
        state.ended_by = ended_by
        if state.phase is not Phase.DRAINING:
            state.phase = Phase.FINALS
        pool = await self._teammates.pool()
        rollouts = await self._final_rollouts_left(state)
        if not rollouts:
            rollouts = await self._threads.run(lambda: self._policy.final_rollouts(state.closed, state.evidence, pool))
            rollouts = self._setting_aside.left_of(rollouts, state.evidence)
        if not rollouts:
            await self._finish(state, ended_by)
            return
        await self._teammates.commit([AddRollouts(rollouts)])
        state.finalists = {rollout.program for rollout in rollouts}
        for job in RunProgram.jobs(rollouts, only=state.finalists):
            await self._teammates.via(SAMPLER).cast(job)

    async def scored(self, state: CoordinatorState, program: int) -> None:
        """Note that the final rollouts of a program have results."""
        if program in state.finalists:
            state.finalists.discard(program)
            if not state.finalists:
                await self.choose_winner(state, state.ended_by)

    def may_continue(self, state: CoordinatorState, run: Run) -> bool:
        """Return whether the budget is larger now, and was what ended the run or what its search was planned for."""
        if self._budget.reached() is not None:
            return False
        result = cast("dict[str, JSON]", run.result)
        if result.get("cap") is not None:
            return True
        done = not result.get("stopped", False)
        return done and self._policy.may_continue(state.closed, state.steps_closed, state.evidence)

    async def with_result(self, state: CoordinatorState) -> None:
        """End a run that has its result, after publishing its winner if it is clearly better than what is served."""
        best = PublishBest(state.all_evidence(), await self._teammates.pool())
        await self._teammates.via(PUBLISHER).call(best, timeout=None)
        self._end(state, None)

    async def with_error(self, state: CoordinatorState, error: SimbaError) -> None:
        """End the run with an error. It continues when it is started again."""
        if state.phase is Phase.ENDED:
            return
        self._failure.set(error)
        reason = self._secrets.hide(str(error))
        await self._teammates.commit([SetStatus("failed", reason)], [RunFailed(reason=reason)])
        remedy = (
            " with the metric corrected, or with on_metric_error='score 0'" if isinstance(error, MetricError) else ""
        )
        logger.warning("run %r has failed: %s. It continues when it is started again%s", self._run_id, reason, remedy)
        self._end(state, error)

    def watch_clock(self) -> None:
        """Watch the clock if the budget limits time. Workers check it only before each rollout, and may hang."""
        if self._budget.budget.max_seconds is not None:
            spawn_link(self._watch_clock, name="clock of the budget")

    async def budget_spent(self, state: CoordinatorState, cap: str) -> None:
        """Wait for the work in flight, then end the run."""
        if state.phase in (Phase.DRAINING, Phase.ENDED):
            return
        self._budget.cap_reached = cap  # A restarted Coordinator continues here, since drained actors do no more work.
        state.phase, state.draining = Phase.DRAINING, {PROPOSER, SAMPLER}
        limit = float(getattr(self._budget.budget, cap))
        await self._teammates.commit([], [BudgetReached(cap=cap, limit=limit)])
        for actor in sorted(state.draining):
            await self._teammates.via(actor).cast(Drain())

    async def drained(self, state: CoordinatorState, actor: str) -> None:
        """Note that an actor has no more work in flight. End the run if none has."""
        state.draining.discard(actor)
        if state.phase is Phase.DRAINING and not state.draining:
            cap = self._budget.cap_reached
            reason = f"the budget's {cap} is reached: start the run with a larger one to continue it"
            await self._finish(state, reason, cap)

    async def _watch_clock(self) -> None:
        cap = await self._budget.until_time_is_up()
        self._teammates.via(COORDINATOR).cast_nowait(BudgetSpent(cap))

    async def _final_rollouts_left(self, state: CoordinatorState) -> tuple[Rollout, ...]:
        """Return the final rollouts that were planned before a restart and have no result yet."""
        if not state.final_rollouts_may_be_left:
            return ()
        state.final_rollouts_may_be_left = False
        records = await self._teammates.via(POOL_KEEPER).call(ReadRollouts(FINAL_STEP, "final"), timeout=None)
        return self._setting_aside.without(record.rollout for record in records if record.trajectory is None)

    async def _finish(self, state: CoordinatorState, reason: str, cap: str | None = None) -> None:
        """End the run with the best program known. `cap` is the cap of the budget that was reached, if one was."""
        pool = await self._teammates.pool()
        evidence = state.all_evidence()
        ranking = await self._threads.run(lambda: self._policy.ranking(state.closed, evidence, pool))
        if not ranking:
            await self.with_error(state, RunError(f"no program has a score yet: {reason}"))
            return
        result: dict[str, JSON] = {"cap": cap, "stopped": state.stopped_by is not None}
        if self._objectives is not None:
            scores = await self._scores_by_objective(self._objectives, [program for program, _ in ranking])
            ranking = self._objectives.choose(ranking, scores)
            result["scores"] = [[program, dict(scores[program])] for program, _ in ranking]
        result["ranking"] = [[program, mean] for program, mean in ranking]
        winner, score = ranking[0]
        event = RunFinished(program=winner, score=score, reason=reason)
        await self._teammates.commit([SetStatus("finished", reason, result)], [event])
        logger.info("finished: program %d with %.3f; %s", winner, score, reason)
        await self.with_result(state)

    async def _scores_by_objective(
        self, objectives: Objectives, programs: Sequence[int]
    ) -> dict[int, dict[str, float]]:
        """Return the finalists' scores by each objective."""
        known = await self._teammates.via(POOL_KEEPER).call(ReadObjectives(objectives.names), timeout=None)
        estimates = await self._threads.run(
            lambda: {name: self._policy.scores(programs, evidence) for name, evidence in known.items()}
        )
        return {program: {name: estimates[name][program] for name in objectives.names} for program in programs}

    def _end(self, state: CoordinatorState, error: SimbaError | None) -> None:
        state.phase = Phase.ENDED
        self._finished(error)
