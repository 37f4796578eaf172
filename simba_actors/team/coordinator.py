"""The loop: opens a step, hears each of its parts end, closes it, and decides when the run is over."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from simba_actors.actors import CallReturn, CastReturn, Continue, From, GenServer, InitReturn, Reply
from simba_actors.errors import StopperError
from simba_actors.events import Event, RunPaused, RunResumed, RunStarted, StepOpened
from simba_actors.search.plan import Rollout
from simba_actors.search.policy import STUDENT, StepPlan, StepResult
from simba_actors.search.progress import Progress, progress_of
from simba_actors.search.stopping import reason_to_stop
from simba_actors.store.records import (
    AddProgram,
    AddRollouts,
    CloseStep,
    OpenStep,
    Program,
    RunStatus,
    SetStatus,
    Write,
)
from simba_actors.team.coordinator_state import CoordinatorState
from simba_actors.team.ending import Ending
from simba_actors.team.messages import (
    BudgetSpent,
    Drained,
    Ledger,
    MetricFailed,
    Pause,
    Proposed,
    PublishBest,
    ReadLedger,
    ReadUsage,
    Resume,
    RunProgram,
    RunSamples,
    Scored,
    Unreachable,
)
from simba_actors.team.pool_view import PoolView
from simba_actors.team.setup import POOL_KEEPER, PUBLISHER, SAMPLER, RunSetup
from simba_actors.team.step_events import dropped, forecast, step_events

logger = logging.getLogger(__name__)


class Coordinator(GenServer[CoordinatorState]):
    """Knows the policy's answers and the order of things; does none of the work itself.

    The policy answers in a thread, for it may take some arithmetic, and the event loop is the host's.
    """

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup

    async def init(self) -> InitReturn:
        self.state = CoordinatorState()
        self._ending = Ending(self._setup, self.state)
        return Continue()

    async def handle_continue(self, token: Any) -> CastReturn:
        ledger = await self._setup.via(POOL_KEEPER).call(ReadLedger(), timeout=None)
        self._recall(ledger)
        if ledger.run.status == "finished" and not self._ending.may_go_on(ledger.run):
            await self._ending.with_result()
            return None
        if self._setup.gate.failure is not None:
            await self._ending.with_error(self._setup.gate.failure)
            return None
        if not self._setup.gate.announced:
            await self._announce(ledger)
        elif (reason := self._setup.gate.paused_for) is not None:
            await self._pause_again(reason, ledger.run.status)
        self._ending.watch_clock()
        if self.state.plan is not None:
            ahead = self._ahead()
            await self._setup.commit([AddRollouts(ahead)])
            await self._run(self.state.plan, ahead, fresh=False)
        else:
            await self._next_step(await self._setup.pool())
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case Pause(reason=reason):
                await self._pause(reason)
                return Reply(None)
            case Resume():
                await self._resume()
                return Reply(None)
            case _:
                return await super().handle_call(message, sender)

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case Scored():
                await self._scored(message)
            case Proposed(plan=plan) if self.state.plan is not None and plan.step == self.state.plan.step:
                self.state.proposed = message
                await self._close_step_if_over()
            case Proposed():
                pass  # Told again, of a step that is closed.
            case Unreachable(reason=reason, opening=opening):
                # Each call that was under way tells of the same outage, some of them when it is over.
                if not self.state.paused and opening == self._setup.gate.openings:
                    await self._pause(reason)
            case BudgetSpent(cap=cap):
                await self._ending.budget_spent(cap)
            case Drained(by=actor):
                await self._ending.drained(actor)
            case MetricFailed(error=error):
                await self._ending.with_error(error)
            case _:
                return await super().handle_cast(message)
        return None

    def format_state(self) -> str:
        state = self.state
        return f"{state.steps_closed} steps closed, {len(state.evaluated)} candidates of the open one evaluated"

    def _recall(self, ledger: Ledger) -> None:
        state = self.state
        state.evidence, state.progress, state.recalled = ledger.evidence, ledger.progress, True
        state.policy_state = self._setup.policy.initial_state()
        for step in ledger.steps:
            if step.result is None:
                state.plan = StepPlan.from_json(step.step, step.plan)
            else:
                state.policy_state = StepResult.from_json(step.result).state
                state.steps_closed += 1

    async def _announce(self, ledger: Ledger) -> None:
        """Tells, once a process, that the run is up."""
        writes: list[Write] = [SetStatus("running")]
        event: Event = RunResumed(by="start")
        if not ledger.programs:
            writes.append(AddProgram(self._student()))
            event = RunStarted(policy=type(self._setup.policy).__name__, settings=self._setup.run.settings)
        await self._setup.commit(writes, [event])
        self._setup.gate.announced = True
        self._setup.purse.start_clock()

    def _student(self) -> Program:
        configuration = self._setup.student_configuration
        return Program(STUDENT, configuration.digest, configuration.to_json(), (), "student", -1)

    async def _next_step(self, pool: PoolView) -> None:
        state = self.state
        try:
            stopped = await self._reason_to_stop()
        except StopperError as error:
            await self._ending.with_error(error)
            return
        if stopped is not None:
            await self._ending.choose_winner(stopped)
            return
        policy = self._setup.policy
        plan = await self._setup.threads.run(
            lambda: policy.open_step(state.policy_state, state.steps_closed, state.evidence, pool)
        )
        if plan is None:
            await self._ending.choose_winner(f"all of its {state.steps_closed} steps are done")
            return
        ahead = self._ahead()
        opened = OpenStep(plan.step, plan.to_json(), plan.rollouts)
        await self._setup.commit([opened, AddRollouts(ahead)], [StepOpened(step=plan.step, examples=plan.batch)])
        state.plan, state.proposed, state.evaluated = plan, None, set()
        await self._run(plan, ahead, fresh=True)

    async def _reason_to_stop(self) -> str | None:
        stop_when, progress = self._setup.stop_when, self.state.progress
        if stop_when is None or progress is None:
            return None
        return await self._setup.threads.run(lambda: reason_to_stop(stop_when, progress))

    def _ahead(self) -> tuple[Rollout, ...]:
        """Final rollouts that are needed in any case, and fill idle places."""
        state = self.state
        rollouts = self._setup.policy.rollouts_ahead(state.policy_state, state.steps_closed)
        return tuple(rollout for rollout in rollouts if rollout.program not in state.sent_ahead)

    async def _run(self, plan: StepPlan, ahead: Sequence[Rollout], *, fresh: bool) -> None:
        """Has the Sampler run what is stored of an open step and ahead of the end."""
        await self._setup.via(SAMPLER).cast(RunSamples(plan, fresh))
        programs = {rollout.program for rollout in ahead}
        self.state.sent_ahead |= programs
        for job in RunProgram.jobs(ahead, only=programs, ahead=True):
            await self._setup.via(SAMPLER).cast(job)

    async def _scored(self, scored: Scored) -> None:
        state = self.state
        state.evidence.add(scored.scores)
        program = scored.program
        if program is None:
            return
        if scored.phase == "final":
            await self._ending.scored(program)
        elif scored.phase == "evaluate" and state.plan is not None and scored.step == state.plan.step:
            state.evaluated.add(program)
            await self._close_step_if_over()

    async def _close_step_if_over(self) -> None:
        state, policy = self.state, self._setup.policy
        plan, proposed = state.plan, state.proposed
        if plan is None or proposed is None or not state.evaluated.issuperset(proposed.candidates):
            return
        pool = await self._setup.pool()
        more = await self._setup.threads.run(
            lambda: policy.next_round(plan, proposed.proposals, proposed.candidates, state.evidence, pool)
        )
        if more:
            programs = {rollout.program for rollout in more}
            left_out = [program for program in proposed.candidates if program not in programs]
            await self._setup.commit([AddRollouts(more)], dropped(plan.step, left_out, state.evidence))
            state.evaluated -= programs
            for job in RunProgram.jobs(more, only=programs):
                await self._setup.via(SAMPLER).cast(job)
            return
        await self._close_step(plan, proposed, pool)
        await self._next_step(pool)

    async def _close_step(self, plan: StepPlan, proposed: Proposed, pool: PoolView) -> None:
        state, policy = self.state, self._setup.policy

        def closed() -> tuple[StepResult, Progress]:
            result = policy.close_step(plan, proposed.proposals, proposed.candidates, state.evidence, pool)
            return result, self._progress(plan.step, result)

        result, progress = await self._setup.threads.run(closed)
        events = step_events(plan.step, proposed.baseline_score, result, progress, state.evidence)
        if state.steps_closed == 0:
            setup = self._setup
            used = await setup.via(POOL_KEEPER).call(ReadUsage(plan.step), timeout=None)
            done = state.evidence.rollouts_in(plan.step)
            events.append(forecast(used, done, setup.rollouts_expected, setup.max_steps))
        await self._setup.cast_commit([CloseStep(plan.step, result.to_json(), progress.to_json())], events)
        state.policy_state, state.progress = result.state, progress
        state.steps_closed += 1
        state.plan = None
        await self._setup.via(PUBLISHER).cast(PublishBest())
        best = "no candidate" if result.winner is None else f"best candidate {result.scores[result.winner]:.3f}"
        logger.info("step %d: sampled mean %.3f, %s", plan.step, proposed.baseline_score, best)

    def _progress(self, step: int, result: StepResult) -> Progress:
        state, purse = self.state, self._setup.purse
        return progress_of(step, result.best, state.evidence, purse.used, purse.seconds, state.progress)

    async def _pause(self, reason: str) -> None:
        if self.state.finished:
            return
        self.state.paused = True
        self._setup.gate.close(reason)
        self._setup.purse.stop_clock()
        await self._setup.commit([SetStatus("paused", reason)], [RunPaused(reason=reason)])

    async def _pause_again(self, reason: str, stored: RunStatus) -> None:
        """After a crash: what was told last may not have been heard."""
        if stored == "paused":
            self.state.paused = True
        else:
            await self._pause(reason)

    async def _resume(self) -> None:
        if self.state.finished:
            return
        self.state.paused = False
        await self._setup.commit([SetStatus("running")], [RunResumed(by="resume")])
        self._setup.purse.start_clock()
        self._setup.governor.renew_grace_period()
        self._setup.gate.open()
