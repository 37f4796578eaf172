"""The Coordinator: opens steps, waits for their parts, closes them, and decides when the search is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import anyio

from simba_actors.actors import CallReturn, CastReturn, Continue, From, GenServer, InitReturn, Reply, spawn_link
from simba_actors.errors import StopperError
from simba_actors.events import Event, PauseCause, RunPaused, RunResumed, RunStarted, RunWaiting, StepOpened
from simba_actors.lm.budget import BudgetTracker, forecast
from simba_actors.programs import Configuration
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads
from simba_actors.search.policy import Policy, StepPlan, StepResult
from simba_actors.search.progress import Progress, progress_of
from simba_actors.search.rollout import JSON, STUDENT
from simba_actors.search.stopping import StopWhen, reason_to_stop
from simba_actors.store.differences import plan_without_state, result_without_state
from simba_actors.store.records import (
    UNOPTIMIZED,
    AddProgram,
    CloseStep,
    NewRun,
    OpenStep,
    Program,
    Run,
    SetStatus,
    Write,
)
from simba_actors.team.coordinator_state import CoordinatorState, Phase, RunningStep
from simba_actors.team.ending import Ending
from simba_actors.team.messages import (
    COORDINATOR,
    POOL_KEEPER,
    PUBLISHER,
    SAMPLER,
    BudgetSpent,
    Drained,
    EverythingFailed,
    Ledger,
    MetricFailed,
    Pause,
    Proposed,
    PublishBest,
    ReadLedger,
    ReadUsage,
    Resume,
    RunSamples,
    Scored,
    SilenceBegun,
    SilenceEnded,
    Teammates,
    Unreachable,
)
from simba_actors.team.run_state import Claim, Failure, Pausing
from simba_actors.team.setting_aside import SettingAside
from simba_actors.team.step_events import step_events

logger = get_logger(__name__)


class Coordinator(GenServer[CoordinatorState]):
    """Asks the policy what to do next, and has the other actors do it.

    The policy answers in a thread, because its arithmetic may take a while and the event loop is the host's.

    Args:
        teammates: The other actors.
        run: The run, for its first event.
        student: The configuration of program 0.
        unoptimized: The rest of the student, which a file of any program needs as well.
        claim: What this process has already stored about the start of the run.
        policy: Decides what is sampled, proposed and evaluated.
        ending: Ends the run.
        setting_aside: The examples that are left out.
        budget: What the run may use.
        stop_when: Asked after each step whether to end the search.
        max_steps: Maximum number of steps of the run.
        pausing: Whether the run is paused.
        failure: The error that ends the run.
        resume_after: Seconds after which a pause ends automatically unless the user asked for it; None for never.
        renew_grace_period: Called on resuming, to give endpoints their whole grace period again.
        threads: Where the policy runs.
    """

    def __init__(
        self,
        teammates: Teammates,
        *,
        run: NewRun,
        student: Configuration,
        unoptimized: Configuration,
        claim: Claim,
        policy: Policy,
        ending: Ending,
        setting_aside: SettingAside,
        budget: BudgetTracker,
        stop_when: StopWhen | None,
        max_steps: int,
        pausing: Pausing,
        failure: Failure,
        resume_after: float | None,
        renew_grace_period: Callable[[], None],
        threads: Threads,
    ) -> None:
        self._teammates = teammates
        self._run_to_start = run
        self._student, self._unoptimized = student, unoptimized
        self._claim = claim
        self._policy = policy
        self._ending = ending
        self._setting_aside = setting_aside
        self._budget = budget
        self._stop_when = stop_when
        self._max_steps = max_steps
        self._pausing, self._failure = pausing, failure
        self._resume_after = resume_after
        self._renew_grace_period = renew_grace_period
        self._threads = threads

    async def init(self) -> InitReturn:
        self.state = CoordinatorState()
        return Continue()

    async def handle_continue(self, token: Any) -> CastReturn:
        ledger = await self._teammates.via(POOL_KEEPER).call(ReadLedger(), timeout=None)
        await self._recall(ledger)
        if ledger.run.status == "finished" and not self._may_continue(ledger.run):
            await self._ending.with_result(self.state)
            return None
        if self._failure.error is not None:
            await self._ending.with_error(self.state, self._failure.error)
            return None
        if self._budget.cap_reached is not None:
            await self._ending.budget_spent(self.state, self._budget.cap_reached)
            return None
        if not self._claim.is_announced:
            await self._announce(ledger)
        elif self._pausing.reason is not None and self._pausing.cause is not None:
            if ledger.run.status == "paused":
                self.state.pause_is_stored = True
                self._plan_to_resume()
            else:  # A crash has kept the pause from being stored.
                await self._pause(self._pausing.reason, self._pausing.cause)
        self._ending.watch_clock()
        for step in self.state.steps.values():
            await self._teammates.via(SAMPLER).cast(RunSamples(step.plan))
        await self._open_steps()
        return None

    def _may_continue(self, run: Run) -> bool:
        """Return whether the reason that ended the run is gone: the budget is larger now, or `stop_when` is None."""
        was_stopped = cast("dict[str, Any]", run.result).get("stopped", False)
        return self._ending.may_continue(self.state, run) or (was_stopped and self._stop_when is None)

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case Pause(reason=reason, cause=cause):
                await self._pause(reason, cause)
                return Reply(None)
            case Resume():
                await self._resume(message)
                return Reply(None)
            case _:
                return await super().handle_call(message, sender)

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case Scored():
                await self._scored(message)
            case Proposed(tried=tried):
                if tried.plan.step in self.state.steps:  # Otherwise a duplicate for a closed step.
                    self.state.steps[tried.plan.step].proposed = message
                    await self._close_complete_steps()
            case Unreachable(reason=reason, cause=cause, epoch=epoch):
                # Each call that was in flight reports the same outage, some of them after it is over.
                if not self.state.pause_is_stored and epoch == self._pausing.epoch:
                    await self._pause(reason, cause)
            case SilenceBegun(reason=reason):
                await self._wait_for_endpoint(reason)
            case SilenceEnded():
                await self._endpoint_answers()
            case EverythingFailed(reason=reason):
                if not self.state.pause_is_stored:
                    await self._pause(reason, "failures")
            case Resume():
                await self._resume(message)
            case BudgetSpent(cap=cap):
                await self._ending.budget_spent(self.state, cap)
            case Drained(by=actor):
                await self._ending.drained(self.state, actor)
            case MetricFailed(error=error):
                await self._ending.with_error(self.state, error)
            case _:
                return await super().handle_cast(message)
        return None

    def format_state(self) -> str:
        state = self.state
        now = ", ".join([str(state.phase), *map(str, state.steps.values())])
        return f"{now}; {state.steps_closed} steps closed"

    async def _recall(self, ledger: Ledger) -> None:
        state = self.state
        state.progress, state.final_rollouts_may_be_left = ledger.progress, True
        self._setting_aside.recall(ledger.set_aside, ledger.evidence)
        state.waiting = ledger.run.status == "waiting"
        position = ledger.position
        state.steps_closed = position.steps_closed
        state.closed = position.closed if position.steps_closed else await self._threads.run(self._policy.initial_state)
        for step in position.open_steps:
            state.steps[step.step] = RunningStep(StepPlan.from_json(step.step, step.plan))
        state.evidence, of_open_steps = ledger.evidence.without_steps(state.steps)
        for score in of_open_steps:
            state.steps[score.key.step].scores.append(score)

    async def _announce(self, ledger: Ledger) -> None:
        """Store the event that the run has started or resumed, once in each process."""
        writes: list[Write] = [SetStatus("running")]
        event: Event = RunResumed(by="start")
        if not ledger.programs:
            student = self._student
            rest = self._unoptimized.to_json()
            provenance: JSON = {UNOPTIMIZED: rest} if rest else None
            writes.append(
                AddProgram(Program(STUDENT, student.digest, student.to_json(), (), "student", -1, provenance))
            )
            event = RunStarted(policy=type(self._policy).__name__, settings=self._run_to_start.settings)
        await self._teammates.commit(writes, [event])
        self._claim.is_announced = True
        self._budget.start_clock()

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _open_steps(self) -> None:
        """Open as many steps as the policy wants at a time. If no step is open then, end the search."""
        state = self.state
        try:
            state.stopped_by = state.stopped_by or await self._reason_to_stop()
        except StopperError as error:
            await self._ending.with_error(state, error)
            return
        ended_by = state.stopped_by
        while ended_by is None and len(state.steps) < self._policy.steps_at_once(state.opened, state.steps_closed):
            if not await self._open_step():
                ended_by = self._end_of_search(state.steps_closed)
        if ended_by is not None and not state.steps:
            await self._ending.choose_winner(state, ended_by)

    def _end_of_search(self, steps: int) -> str:
        """Return why the policy opens no more than these steps."""
        if steps < self._max_steps:
            return f"the calls of its search are spent, after {steps} of {self._max_steps} steps"
        return "its only step is done" if steps == 1 else f"all of its {steps} steps are done"

    async def _open_step(self) -> bool:
        """Open another step. Return whether there was one to open."""
        state, number = self.state, self.state.steps_closed + len(self.state.steps)
        pool = (await self._teammates.pool()).before(state.pool_end)
        plan = await self._threads.run(
            lambda: self._policy.open_step(state.opened, state.closed, number, state.evidence, pool)
        )
        if plan is None:
            return False
        opened = OpenStep(number, self._stored_plan(plan), plan.rollouts)
        await self._teammates.commit([opened], [StepOpened(step=number, examples=plan.batch)])
        state.steps[number] = RunningStep(plan)
        await self._teammates.via(SAMPLER).cast(RunSamples(plan, fresh=True))
        return True

    def _stored_plan(self, plan: StepPlan) -> JSON:
        closed = self.state.steps_closed
        return plan_without_state(plan.to_json(), self.state.closed, closed - 1) if closed else plan.to_json()

    async def _reason_to_stop(self) -> str | None:
        """Return the reason that `stop_when` gives to open no more steps, or None to continue.

        It may have given one already before the run was killed, so it is asked again about the steps that closed after
        the last one opened.
        """
        state, stop_when, progress = self.state, self._stop_when, self.state.progress
        if stop_when is None or progress is None:
            return None
        opened = state.steps_closed + len(state.steps)
        known = max(state.stop_asked, opened - self._policy.steps_at_once(state.opened, state.steps_closed))
        new = [step for step in progress.history if step.step > known]
        reasons = await self._threads.run(lambda: [reason_to_stop(stop_when, step) for step in new])
        state.stop_asked = state.steps_closed
        return next((reason for reason in reasons if reason is not None), None)

    async def _scored(self, scored: Scored) -> None:
        state, program = self.state, scored.program
        if scored.phase == "final":
            state.evidence.add(scored.scores)
            if program is not None:
                await self._ending.scored(state, program)
            return
        step = state.steps.get(scored.step)
        if step is None:
            return  # A duplicate for a closed step.
        step.scores += scored.scores
        if program is not None:
            step.evaluated.add(program)
            await self._close_complete_steps()

    async def _close_complete_steps(self) -> None:
        """Close steps, oldest first, up to the first that is not complete, and open others in their place."""
        while (step := next(iter(self.state.steps.values()), None)) is not None and step.is_complete:
            await self._close_step(step)
            await self._open_steps()

    async def _close_step(self, step: RunningStep) -> None:
        state, plan, proposed = self.state, step.plan, step.proposed
        if proposed is None:
            raise AssertionError("a complete step has proposals")
        del state.steps[plan.step]
        state.evidence.add(step.scores)
        pool = (await self._teammates.pool()).before(state.pool_end)

        def close() -> tuple[StepResult, JSON, Progress, list[Event]]:
            result = self._policy.close_step(state.closed, proposed.tried, state.evidence, pool)
            used, seconds = self._budget.used, self._budget.seconds
            progress = progress_of(
                plan.step, result.best, result.outlook, state.evidence, used, seconds, state.progress
            )
            stored = result_without_state(result.to_json(), plan.state)
            events = step_events(plan.step, proposed.sampled_mean, result, progress, state.evidence)
            return result, stored, progress, events

        result, stored, progress, events = await self._threads.run(close)
        if state.steps_closed == 0:
            used = await self._teammates.via(POOL_KEEPER).call(ReadUsage(plan.step), timeout=None)
            done = state.evidence.rollouts_in(plan.step)
            expected = self._policy.rollouts_expected(done)
            events.append(forecast(used, progress.seconds, done, expected, self._max_steps, self._budget.budget))
        await self._teammates.commit_later([CloseStep(plan.step, stored, progress.to_store())], events)
        state.closed, state.progress = result.state, progress
        state.steps_closed += 1
        await self._teammates.via(PUBLISHER).cast(PublishBest(state.evidence.copy(), pool))
        best = "no candidate" if result.winner is None else f"best candidate program {result.winner}"
        mean = proposed.sampled_mean
        sampled = "no scores" if mean is None else f"sampled mean {mean:.3f}"
        logger.info("step %d: %s, %s", plan.step + 1, sampled, best)

    # ── pausing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _pause(self, reason: str, cause: PauseCause) -> None:
        if self.state.phase is Phase.ENDED:
            return
        self.state.pause_is_stored, self.state.waiting = True, False
        self._pausing.pause(reason, cause)
        self._budget.stop_clock()
        await self._teammates.commit([SetStatus("paused", reason)], [RunPaused(reason=reason, cause=cause)])
        run_id, seconds = self._run_to_start.run_id, self._resume_after
        if self._pausing.is_by_request:
            logger.info("run %r is paused: %s. It continues when it is resumed", run_id, reason)
        elif seconds is None:
            logger.warning("run %r is paused for %s: %s. It continues when it is resumed", run_id, cause, reason)
        else:
            logger.warning("run %r is paused for %s: %s. It continues in %g s", run_id, cause, reason, seconds)
        self._plan_to_resume()

    def _plan_to_resume(self) -> None:
        """Have the run resumed after `resume_after` seconds."""
        if self._resume_after is not None and not self._pausing.is_by_request:
            spawn_link(self._resume_later, self._resume_after, self._pausing.epoch, name="resume_after")

    async def _resume_later(self, seconds: float, epoch: int) -> None:
        await anyio.sleep(seconds)
        self._teammates.via(COORDINATOR).cast_nowait(Resume("resume_after", epoch))

    async def _resume(self, resume: Resume) -> None:
        if self.state.phase is Phase.ENDED or resume.epoch not in (None, self._pausing.epoch):
            return
        if resume.by == "resume_after" and self._pausing.is_by_request:
            return  # The user has paused the run meanwhile.
        self.state.pause_is_stored = False
        await self._teammates.commit([SetStatus("running")], [RunResumed(by=resume.by)])
        self._budget.start_clock()
        self._renew_grace_period()
        self._pausing.resume()
        logger.info("run %r is resumed", self._run_to_start.run_id)

    async def _wait_for_endpoint(self, reason: str) -> None:
        if self.state.phase is Phase.ENDED or self._pausing.reason is not None or self.state.waiting:
            return
        self.state.waiting = True
        await self._teammates.commit([SetStatus("waiting", reason)], [RunWaiting(reason=reason)])
        logger.warning("run %r waits for an LM, and continues when one answers: %s", self._run_to_start.run_id, reason)

    async def _endpoint_answers(self) -> None:
        waiting, self.state.waiting = self.state.waiting, False
        if self.state.phase is Phase.ENDED or self._pausing.reason is not None or not waiting:
            return
        await self._teammates.commit([SetStatus("running")], [RunResumed(by="endpoint")])
        logger.info("run %r continues: an LM answers again", self._run_to_start.run_id)
