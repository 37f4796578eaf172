"""The loop: opens a step, hears each of its parts end, closes it, and decides when the run is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import anyio

from simba_actors.actors import (
    CallReturn,
    CastReturn,
    Continue,
    From,
    GenServer,
    InitReturn,
    Reply,
    spawn_link,
)
from simba_actors.algorithm.evidence import Evidence
from simba_actors.algorithm.objectives import Objectives
from simba_actors.algorithm.plan import Rollout
from simba_actors.algorithm.policy import BASELINE, FINAL_STEP, StepPlan, StepResult
from simba_actors.algorithm.progress import Progress, progress_of
from simba_actors.algorithm.stopping import reason_to_stop
from simba_actors.algorithm.trajectory import JSON
from simba_actors.errors import SimbaError, StopperError
from simba_actors.events import (
    BudgetReached,
    Event,
    RunFailed,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    StepOpened,
)
from simba_actors.store.records import (
    AddProgram,
    AddRollouts,
    CloseStep,
    OpenStep,
    Program,
    Run,
    SetStatus,
    Write,
)
from simba_actors.team.messages import (
    BudgetSpent,
    Commit,
    Drain,
    Drained,
    Ledger,
    MetricFailed,
    Pause,
    Proposed,
    PublishBest,
    ReadLedger,
    ReadObjectives,
    ReadPool,
    ReadRollouts,
    Resume,
    RunProgram,
    RunSamples,
    Scored,
    Unreachable,
)
from simba_actors.team.pool_view import PoolView
from simba_actors.team.setup import POOL_KEEPER, PROPOSER, PUBLISHER, SAMPLER, RunSetup
from simba_actors.team.step_events import dropped, forecast, step_events

logger = logging.getLogger(__name__)

LEAST_WAIT = 0.1
"""Seconds between looks at the budget's clock, which stands still while the run is paused."""

Answer = TypeVar("Answer")


@dataclass(slots=True)
class CoordinatorState:
    """Where the run stands; all of it can be read from the store.

    `policy_state` is what the last closed step left. `plan` is the open step's, None between steps; `proposed` what
    the Proposer told of it, and `evaluated` its candidates whose planned rollouts are all in. `finalists` are programs
    whose final rollouts are awaited, `sent_ahead` those whose final rollouts are under way early. `spent` is the
    cap of the budget that is reached, if one is, and `draining` the actors whose work in flight is awaited then.
    `progress` is what the last closed step left, `ended_by` says what ended the search. `recalled` says that some final
    rollouts may be under way since an earlier life.
    """

    policy_state: JSON = None
    steps_closed: int = 0
    evidence: Evidence = field(default_factory=Evidence)
    plan: StepPlan | None = None
    proposed: Proposed | None = None
    evaluated: set[int] = field(default_factory=set[int])
    finalists: set[int] = field(default_factory=set[int])
    sent_ahead: set[int] = field(default_factory=set[int])
    spent: str | None = None
    draining: set[str] = field(default_factory=set[str])
    progress: Progress | None = None
    ended_by: str = ""
    recalled: bool = False
    finished: bool = False


class Coordinator(GenServer[CoordinatorState]):
    """Knows the policy's answers and the order of things; does none of the work itself."""

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup

    async def init(self) -> InitReturn:
        self.state = CoordinatorState()
        return Continue()

    async def handle_continue(self, token: Any) -> CastReturn:
        ledger = await self._setup.via(POOL_KEEPER).call(ReadLedger(), timeout=None)
        self._recall(ledger)
        if ledger.run.status == "finished" and not self._may_go_on(ledger.run):
            await self._end_well()
            return None
        if not self._setup.gate.announced:
            await self._announce(ledger)
        if self.state.plan is not None:
            await self._setup.via(SAMPLER).cast(RunSamples(self.state.plan))
            await self._run_ahead()
        else:
            await self._next_step()
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
            case Unreachable(reason=reason):
                await self._pause(reason)
            case BudgetSpent(cap=cap):
                await self._budget_spent(cap)
            case Drained(by=actor):
                self.state.draining.discard(actor)
                if not self.state.draining:
                    await self._end_early()
            case MetricFailed(error=error):
                await self._fail(error)
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
            writes.append(AddProgram(self._baseline()))
            event = RunStarted(policy=type(self._setup.policy).__name__, settings=self._setup.run.settings)
        await self._commit(writes, [event])
        self._setup.gate.announced = True
        self._setup.purse.start_clock()
        if self._setup.purse.budget.max_seconds is not None:
            spawn_link(self._watch_clock, name="clock of the budget")

    def _baseline(self) -> Program:
        configuration = self._setup.baseline
        return Program(BASELINE, configuration.digest, configuration.to_json(), (), "student", -1)

    async def _next_step(self) -> None:
        state = self.state
        try:
            stopped = await self._decide(self._reason_to_stop)
        except StopperError as error:
            await self._fail(error)
            return
        if stopped is not None:
            await self._finalize(stopped)
            return
        policy, pool = self._setup.policy, await self._pool()
        plan = await self._decide(
            lambda: policy.open_step(state.policy_state, state.steps_closed, state.evidence, pool)
        )
        if plan is None:
            await self._finalize(f"all of its {state.steps_closed} steps are done")
            return
        opened = OpenStep(plan.step, plan.to_json(), plan.rollouts)
        await self._commit([opened], [StepOpened(step=plan.step, examples=plan.batch)])
        state.plan, state.proposed, state.evaluated = plan, None, set()
        await self._setup.via(SAMPLER).cast(RunSamples(plan))
        await self._run_ahead()

    def _reason_to_stop(self) -> str | None:
        stop_when, progress = self._setup.stop_when, self.state.progress
        return None if stop_when is None or progress is None else reason_to_stop(stop_when, progress)

    async def _run_ahead(self) -> None:
        """Has the Sampler fill idle places with final rollouts that are needed in any case."""
        state = self.state
        rollouts = self._setup.policy.rollouts_ahead(state.policy_state, state.steps_closed)
        programs = {rollout.program for rollout in rollouts} - state.sent_ahead
        if programs:
            await self._commit([AddRollouts(rollouts)], [])
            state.sent_ahead |= programs
            await self._send(rollouts, ahead=True, only=programs)

    async def _send(self, rollouts: Sequence[Rollout], *, only: set[int], ahead: bool = False) -> None:
        jobs = [RunProgram(r.key.step, r.key.phase, r.program, ahead) for r in rollouts if r.program in only]
        for job in dict.fromkeys(jobs):
            await self._setup.via(SAMPLER).cast(job)

    async def _scored(self, scored: Scored) -> None:
        state = self.state
        state.evidence.add(scored.scores)
        program = scored.program
        if program is None:
            return
        if scored.phase == "final" and program in state.finalists:
            state.finalists.discard(program)
            if not state.finalists:
                await self._finalize(state.ended_by)
        elif scored.phase == "evaluate" and state.plan is not None and scored.step == state.plan.step:
            state.evaluated.add(program)
            await self._close_step_if_over()

    async def _close_step_if_over(self) -> None:
        state, policy = self.state, self._setup.policy
        plan, proposed = state.plan, state.proposed
        if plan is None or proposed is None or not state.evaluated.issuperset(proposed.candidates):
            return
        pool = await self._pool()
        more = await self._decide(
            lambda: policy.next_round(plan, proposed.proposals, proposed.candidates, state.evidence, pool)
        )
        if more:
            programs = {rollout.program for rollout in more}
            left_out = [program for program in proposed.candidates if program not in programs]
            await self._commit([AddRollouts(more)], dropped(plan.step, left_out, state.evidence))
            state.evaluated -= programs
            await self._send(more, only=programs)
            return
        await self._close_step(plan, proposed)
        await self._next_step()

    async def _close_step(self, plan: StepPlan, proposed: Proposed) -> None:
        state, policy, pool = self.state, self._setup.policy, await self._pool()
        result = await self._decide(
            lambda: policy.close_step(plan, proposed.proposals, proposed.candidates, state.evidence, pool)
        )
        progress = await self._decide(lambda: self._progress(plan.step, result))
        events = step_events(plan.step, proposed.baseline_score, result, progress, state.evidence)
        if state.steps_closed == 0:
            setup = self._setup
            events.append(forecast(setup.purse.used, len(state.evidence), setup.rollouts_expected))
        await self._commit([CloseStep(plan.step, result.to_json(), progress.to_json())], events)
        state.policy_state, state.progress = result.state, progress
        state.steps_closed += 1
        state.plan = None
        await self._setup.via(PUBLISHER).cast(PublishBest())
        best = "no candidate" if result.winner is None else f"best candidate {result.scores[result.winner]:.3f}"
        logger.info("step %d: sampled mean %.3f, %s", plan.step, proposed.baseline_score, best)

    def _progress(self, step: int, result: StepResult) -> Progress:
        state, purse = self.state, self._setup.purse
        return progress_of(step, result.best, state.evidence, purse.used, purse.seconds, state.progress)

    async def _finalize(self, ended_by: str) -> None:
        """Runs what is missing to choose the winner, and ends the run when nothing is."""
        self.state.ended_by = ended_by
        state, policy, pool = self.state, self._setup.policy, await self._pool()
        rollouts = await self._final_rollouts_left()
        if not rollouts:
            rollouts = await self._decide(lambda: policy.final_rollouts(state.policy_state, state.evidence, pool))
        if rollouts:
            await self._commit([AddRollouts(rollouts)], [])
            state.finalists = {rollout.program for rollout in rollouts}
            await self._send(rollouts, only=state.finalists)
            return
        await self._finish(ended_by)

    async def _finish(self, reason: str, cap: str | None = None) -> None:
        """Ends the run with the best program known; `cap` is what of its budget kept it from knowing more."""
        state, policy, pool = self.state, self._setup.policy, await self._pool()
        ranking = await self._decide(lambda: policy.ranking(state.policy_state, state.evidence, pool))
        result: dict[str, JSON] = {"cap": cap}
        if self._setup.objectives is not None:
            scores = await self._scores_by_objective(self._setup.objectives, [program for program, _ in ranking], pool)
            ranking = self._setup.objectives.choose(ranking, scores)
            result["scores"] = [[program, dict(scores[program])] for program, _ in ranking]
        result["ranking"] = [[program, mean] for program, mean in ranking]
        winner, score = ranking[0]
        event = RunFinished(program=winner, score=score, reason=reason)
        await self._commit([SetStatus("finished", reason, result)], [event])
        logger.info("finished: program %d with %.3f; %s", winner, score, reason)
        await self._end_well()

    async def _scores_by_objective(
        self, objectives: Objectives, programs: Sequence[int], pool: PoolView
    ) -> dict[int, dict[str, float]]:
        """What the finalists are expected to score by each objective."""
        policy = self._setup.policy
        known = await self._setup.via(POOL_KEEPER).call(ReadObjectives(objectives.names), timeout=None)
        estimates = await self._decide(
            lambda: {name: policy.estimates(programs, evidence, pool) for name, evidence in known.items()}
        )
        return {program: {name: estimates[name][program] for name in objectives.names} for program in programs}

    def _may_go_on(self, run: Run) -> bool:
        """Whether the run ended for want of a budget that it has by now."""
        return cast("dict[str, JSON]", run.result).get("cap") is not None and self._setup.purse.reached() is None

    async def _budget_spent(self, cap: str) -> None:
        state = self.state
        if state.finished or state.spent is not None:
            return
        state.spent = cap
        limit = float(getattr(self._setup.purse.budget, cap))
        await self._commit([], [BudgetReached(cap=cap, limit=limit)])
        state.draining = {PROPOSER, SAMPLER}
        for actor in sorted(state.draining):
            await self._setup.via(actor).cast(Drain())

    async def _watch_clock(self) -> None:
        """Workers look at the clock when they start a rollout; where all of them hang, nobody does."""
        purse = self._setup.purse
        while (cap := purse.reached()) is None:  # noqa: ASYNC110 - a clock that stands still in pauses has no event
            await anyio.sleep(max(LEAST_WAIT, purse.seconds_left))
        self.ref.cast_nowait(BudgetSpent(cap))

    async def _end_early(self) -> None:
        cap = self.state.spent
        if cap is not None and not self.state.finished:
            await self._finish(f"the budget's {cap} is reached; started with a larger one, the run goes on", cap)

    async def _final_rollouts_left(self) -> tuple[Rollout, ...]:
        """Those that an earlier life planned and did not bring to an end: the policy has decided nothing since."""
        if not self.state.recalled:
            return ()
        self.state.recalled = False
        records = await self._setup.via(POOL_KEEPER).call(ReadRollouts(FINAL_STEP, "final"), timeout=None)
        return tuple(record.rollout for record in records if record.trajectory is None)

    async def _pool(self) -> PoolView:
        return PoolView(
            await self._setup.via(POOL_KEEPER).call(ReadPool(), timeout=None), self._setup.baseline, self._setup.space
        )

    async def _decide(self, question: Callable[[], Answer]) -> Answer:
        """The policy's answer, which may take some arithmetic: off the event loop, which is the host's."""
        return await self._setup.threads.run(question)

    async def _pause(self, reason: str) -> None:
        gate = self._setup.gate
        gate.close()
        self._setup.purse.stop_clock()
        if not self.state.finished:
            await self._commit([SetStatus("paused", reason)], [RunPaused(reason=reason)])

    async def _resume(self) -> None:
        if not self.state.finished:
            await self._commit([SetStatus("running")], [RunResumed(by="resume")])
        self._setup.purse.start_clock()
        self._setup.gate.open()

    async def _fail(self, error: SimbaError) -> None:
        if self.state.finished:
            return
        await self._commit([SetStatus("failed", str(error))], [RunFailed(reason=str(error))])
        self._end(error)

    async def _end_well(self) -> None:
        """The run has its result; who waits for it finds it published, if it is to be."""
        await self._setup.via(PUBLISHER).call(PublishBest(), timeout=None)
        self._end(None)

    def _end(self, error: SimbaError | None) -> None:
        self.state.finished = True
        self._setup.finished(error)

    async def _commit(self, writes: Sequence[Write], events: Sequence[Event]) -> None:
        await self._setup.via(POOL_KEEPER).call(Commit(tuple(writes), tuple(events)), timeout=None)
