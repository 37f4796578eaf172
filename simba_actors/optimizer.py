"""Optimizer: one run of SIMBA inside a running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import anyio
import dspy

from simba_actors.actors import ActorError
from simba_actors.actors.errors import WrongLoopError
from simba_actors.config import OptimizerConfig
from simba_actors.config_checks import check_other_examples
from simba_actors.dspy_compat import check_dspy
from simba_actors.errors import RunError
from simba_actors.estimate import Estimate, estimate
from simba_actors.events import Event
from simba_actors.hosting.assembly import AssembledRun
from simba_actors.hosting.hosted_run import HostedRun, Role
from simba_actors.hosting.preparation import Preparation
from simba_actors.hosting.starting import Starting
from simba_actors.observe.feed import FAREWELL_SECONDS, EventFeed, Listeners, call_back
from simba_actors.observe.progress import follow_progress
from simba_actors.publishing.publications import Publication
from simba_actors.publishing.run_publisher import RunPublisher
from simba_actors.result import OptimizerResult, read_result
from simba_actors.runtime.event_loop import running_loop, running_loop_or_none
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import NO_THREAD, THREAD_REMEDY, Threads
from simba_actors.status import Status
from simba_actors.store import Reader
from simba_actors.store.queries import run_queries
from simba_actors.store.records import Request, RequestKind, RolloutRecord
from simba_actors.store.requests import send_request
from simba_actors.team.messages import COORDINATOR, Pause, Resume

logger = get_logger(__name__)
get_logger("simba_actors.actors")  # Crash reports show messages and states, which may hold what an LM wrote.


STOP_SECONDS = 5.0
"""Maximum number of seconds to wait until a request to stop the run is stored."""


class Optimizer:
    """One optimization, run by a supervised team of actors.

        async with Optimizer.start(config) as optimizer:
            async for event in optimizer.events():
                print(event)
            result = await optimizer.result()
        result.program.save("best.json")

    The store always has the whole run. Start it again with the same config after a crash, a deploy or a `kill -9`, and
    it continues where it was.

    Leaving the `async with` block stops the run and frees it for another process; so does Ctrl-C under `asyncio.run`.
    The optimizer installs no signal handlers. Uvicorn shuts down in order at SIGTERM. A script ends at once, unless it
    calls `signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))` first.

    An Optimizer belongs to the event loop in which it was started. In another one, only `status`, `publish` and
    `rollback` may be called.
    """

    def __init__(self, config: OptimizerConfig) -> None:
        """Raise TypeError: an Optimizer is made by `await Optimizer.start(config)`."""
        raise TypeError(
            "Optimizer(config) starts nothing: use `async with Optimizer.start(config) as optimizer:` or "
            "`optimizer = await Optimizer.start(config)`"
        )

    @classmethod
    def start(cls, config: OptimizerConfig, *, standby: bool = False) -> Starting[Optimizer]:
        """Start the run that `config` describes, or continue it.

            async with Optimizer.start(config) as optimizer: ...     # stops the run at the end of the block
            optimizer = await Optimizer.start(config)                # for `await optimizer.stop()` later

        Both forms return once the team is up. Rollouts run in the context of that call: `dspy.context`, contextvars.

        Args:
            config: What to optimize, and how.
            standby: What to do if another process has the run open: with True, wait as a standby, and take the run over
                when that process stops or dies; see `role`. Use it when several workers of a service start the same
                run. If somebody has stopped the run with `simba-actors stop` or the dashboard, all of them wait until
                it is resumed in the same way.

        Raises:
            ConfigError: An example is wrong. The config checks the first 1,000 of a set, this method the others.
            NoLMError: No LM is set for the student.
            MetricError: The metric, tried on one example and its labels, is broken.
            StoreError: The store's file can't be used.
            RunOwnedError: Another process has the run open, and `standby` is False.
            FingerprintMismatchError: The stored run has another student, trainset, metric or settings.
        """
        return Starting(cls, lambda: cls._started(config, standby=standby))

    @classmethod
    async def run(cls, config: OptimizerConfig) -> OptimizerResult:
        """Run what `config` describes to its end, and return the result.

            result = asyncio.run(Optimizer.run(config))     # in a script

        If it is cancelled or raises, the run is stopped, and the next call with the same config continues it. For
        status, events, publishing and pausing use `start`.

        Raises:
            SimbaError: As for `start` and `result`.
        """
        async with cls.start(config) as optimizer:
            return await optimizer.result()

    @staticmethod
    async def estimate(config: OptimizerConfig, *, rollouts: int = 8) -> Estimate:
        """Return what the run that `config` describes would take: calls, tokens, cost and time.

            print(await Optimizer.estimate(config))    # costs eight rollouts

        It runs the student on a few examples, as `evaluate` does, and stores nothing. When a run closes its first step,
        the event `BudgetForecast` makes the same estimate from what that step took.

        Args:
            config: What to optimize, and how.
            rollouts: Number of rollouts of the student to estimate from.

        Raises:
            ConfigError: An example does not fit the student.
            NoLMError: No LM is set for the student.
            MetricError: The metric raised, or returned no score.
            LMAccessError, LMUnavailableError, RolloutTimeoutError: As for `evaluate`.
        """
        return await estimate(config, rollouts=rollouts)

    @classmethod
    async def _started(cls, config: OptimizerConfig, *, standby: bool) -> Optimizer:
        running_loop("Optimizer.start")
        optimizer = cls.__new__(cls)
        threads = Threads()
        try:
            preparation = await threads.run(lambda: _prepared(config))
            optimizer._assemble(config, preparation, standby=standby)
        except RuntimeError as error:
            if str(error) != NO_THREAD:
                raise
            raise RunError(
                f"the run was not started, since the process can't start a thread: {THREAD_REMEDY}"
            ) from error
        finally:
            await threads.close()
        await optimizer._hosted.start()
        try:
            await optimizer._publisher.look()
        except BaseException:
            await optimizer.stop()
            raise
        optimizer._start_listeners()
        return optimizer

    def _assemble(self, config: OptimizerConfig, preparation: Preparation, *, standby: bool) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._feed = EventFeed()
        self._hosted = HostedRun(config, preparation, self._feed, self._on_request, may_stand_by=standby)
        self._publisher = RunPublisher(self._run.store, config.channel, self.run_id, self._run.space)
        self._listeners = Listeners()
        self._ending: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()

    @property
    def _run(self) -> AssembledRun:
        return self._hosted.run

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Optimizer can't be copied or pickled, since it belongs to its event loop: pass on its store and run_id "
            "or what status().to_json() returns"
        )

    def __repr__(self) -> str:
        return f"<Optimizer of run {self.run_id!r} in {str(self.store)!r}>"

    @property
    def run_id(self) -> str:
        """The run's name in the store."""
        return self._hosted.run_id

    @property
    def store(self) -> Path:
        """The file that keeps the run."""
        return self._run.store

    @property
    def role(self) -> Role:
        """Whether this process does the run's work ("owner"), or waits to take it over ("standby").

        It is "standby" only after `start(config, standby=True)`. All methods work in either role; `pause` and `resume`
        are passed on to the owner. A standby takes the run over within a second after the owner stopped, or died on
        this host, and within `LEASE_SECONDS` and a second after it died on another host. Each change is a `RoleChanged`
        event.
        """
        return self._hosted.role

    async def result(self, timeout: float | None = None) -> OptimizerResult:
        """Return what the run found, once it is finished. Cancelling this call does not cancel the run.

        Args:
            timeout: Maximum number of seconds to wait; None waits without a limit.

        Raises:
            TimeoutError: The run is not finished by then. It continues.
            RunPausedError: The run is paused, and waiting can't help: an LM refused to serve, or could not be reached
                for longer than the grace period. Fix that, `resume`, and ask again. With
                `OptimizerConfig(resume_after=…)` the run continues automatically, and this call waits.
            MetricError: The metric raised, or returned something that is not a number. The run can continue
                when that is fixed.
            StopperError: `stop_when` raised, or returned neither a reason nor None. The run can continue when
                that is fixed.
            RunStoppedError: The run was stopped first. It can continue.
            LeaseLostError: Another process has taken the run over, and continues it.
            RunError: The team failed too often to continue; the cause is chained. The run can continue.
        """
        self._check_loop("result")
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await self._hosted.wait()
        except TimeoutError as error:
            if not limit.expired():
                raise
            status = await self.status()
            reason = "" if status.reason is None else f" ({status.reason})"
            remedy = "resume it" if status.status == "paused" else "wait longer, or set a budget"
            raise TimeoutError(
                f"run {self.run_id!r} is {status.status} after {timeout:g} s{reason} and has no result yet: {remedy}"
            ) from error
        async with await Reader.open(self._run.store) as reader:
            return await read_result(reader, self.run_id, self._config.student, self._run.space)

    def events(self, after: int = 0) -> AsyncGenerator[Event]:
        """Return the run's events with a seq above `after`: those stored so far, then new ones, until the run is over.

        Another process follows the run with `simba_actors.observe.follow_events`.
        """
        self._check_loop("events", "use simba_actors.observe.follow_events(store, run_id) here")
        return self._feed.follow(self._run.store, self.run_id, after)

    def rollouts(self) -> AsyncGenerator[RolloutRecord]:
        """Return the run's rollouts: those that have a result so far, then new ones, until the run is over.

            async for record in optimizer.rollouts():
                print(record.rollout.program, record.rollout.example, record.trajectory.score)

        Each record has the plan, `record.rollout`, and its result, `record.trajectory`: the score, the prediction, the
        predictors' calls, the metric's feedback, the error if there was one, usage and seconds. The rollouts that have
        a result already come first, by step.
        """
        self._check_loop("rollouts", "call it in that one")
        return self._feed.follow_rollouts(self._run.store, self.run_id)

    async def status(self) -> Status:
        """Return where the run stands, read from the store. May be called in any event loop."""
        trouble = self._run.gate.store_trouble.reason
        async with await Reader.open(self._run.store) as reader:
            summary = await reader.ask(run_queries.summary, self.run_id)
            return Status(
                run_id=self.run_id,
                status=summary.run.status if trouble is None else "paused",
                reason=summary.run.reason if trouble is None else trouble,
                steps_closed=summary.steps_closed,
                programs=summary.programs,
                best=summary.best,
                student=summary.student,
                rollouts=summary.rollouts_done,
                restarts=dict(self._hosted.restarts),
                progress=await reader.last_progress(self.run_id),
                usage_by_lm=await reader.usage_by_lm(self.run_id),
            )

    async def pause(self, reason: str = "paused by the user") -> None:
        """Start no more LM work. Rollouts in flight end and are stored. Does nothing if the run has its result.

        Raises:
            RunStoppedError: The run was stopped.
            RunError: The run has failed; the cause is chained. Or this is a standby, and no process has the run open.
        """
        self._check_loop("pause")
        if self.role == "standby":
            await self._ask_owner("pause", reason)
        else:
            await self._tell(Pause(reason))

    async def resume(self) -> None:
        """Continue after a pause. Does nothing if the run has its result.

        Raises:
            RunStoppedError: The run was stopped. Start it again to continue.
            RunError: The run has failed; the cause is chained. Once that is fixed, start it again to continue. Or this
                is a standby, and no process has the run open.
        """
        self._check_loop("resume")
        if self.role == "standby":
            await self._ask_owner("resume", "resumed by a standby")
        else:
            await self._tell(Resume())

    async def _ask_owner(self, kind: RequestKind, reason: str) -> None:
        """Ask the process that works on the run, which may have just died or finished it."""
        try:
            await send_request(self.store, self.run_id, kind, reason=reason)
        except RunError as error:
            status = (await self.status()).status
            if status == "running":
                raise RunError(
                    f"run {self.run_id!r} can't be asked to {kind}, since no process has it open at this moment: try "
                    "again when a standby has taken it over, within a second if its owner was on this host"
                ) from error
            if status != "finished":
                raise

    def _check_loop(self, method: str, remedy: str | None = None) -> None:
        """Raise WrongLoopError, before anything changes, if this is not the loop that the optimizer belongs to."""
        if running_loop_or_none() is self._loop:
            return
        if self._loop.is_closed():
            remedy = "that one is closed, so start the run again to continue it"
        remedy = remedy or f"use asyncio.run_coroutine_threadsafe(optimizer.{method}(), loop) with that one"
        raise WrongLoopError(
            f"Optimizer.{method} was called in another event loop than the one the optimizer was started in: {remedy}"
        )

    async def _tell(self, message: Pause | Resume) -> None:
        """Send a message to the Coordinator of a run that has not ended."""
        outcome = self._hosted.outcome
        if not outcome.done():
            try:
                await self._run.teammates.via(COORDINATOR).call(message, timeout=None)
            except ActorError as error:
                raise self._hosted.error_of_undelivered() from error
            return
        error = outcome.exception()
        if isinstance(error, RunError):
            raise error
        if error is not None:
            raise RunError(f"run {self.run_id!r} has failed: {error}. Start it again to continue") from error

    async def publish(
        self,
        program: int | dspy.Module | None = None,
        *,
        share: float | None = None,
        expected: int | None = None,
        reason: str = "published by hand",
        by: str | None = None,
    ) -> Publication:
        """Make a program what live programs of the config's `channel` run, from their next call on.

            await optimizer.publish()                  # the winner, once the run has its result
            await optimizer.publish(7, share=0.1)      # program 7, as a canary for a tenth of all calls

        Args:
            program: Its number in the pool, or a copy of the student; the winner by default.
            share: The share of calls that it gets, above 0 and below 1; by default all.
            expected: The channel's newest version that the publisher knows of; by default the one that this optimizer
                saw when it started or last published, or what the run and the canary test published on their own since.
            reason: For the channel's history.
            by: Whoever publishes; by default the user at this machine.

        Raises:
            ConfigError: `share` is out of range, or `program` is neither a number nor a module. Nothing was published.
            MisfitError: `program` has other predictors or fields than the student.
            VersionConflictError: Somebody else has published since. Nothing was published.
            RunError: There is no winner yet.
            UnknownProgramError: The run has no program of that number.
        """
        published = await self._publisher.publish(program, share=share, expected=expected, reason=reason, by=by)
        self._wake_feed()
        return published

    async def rollback(
        self, to: int | None = None, *, reason: str = "rolled back by hand", by: str | None = None
    ) -> Publication:
        """Bring back version `to` of the config's `channel`; by default the version that was served before.

        Raises:
            UnknownChannelError, UnknownVersionError: There is no such version.
            PrunedVersionError: Its configuration is gone.
            VersionConflictError: Something else was published at the same moment.
        """
        published = await self._publisher.rollback(to, reason=reason, by=by)
        self._wake_feed()
        return published

    def _wake_feed(self) -> None:
        """Have the feed look for what was published, perhaps in another loop."""
        with suppress(RuntimeError):  # The optimizer's loop is closed, so nobody follows the feed.
            self._loop.call_soon_threadsafe(self._feed.wake)

    async def stop(self) -> None:
        """Stop the team and close the store. An unfinished run continues when it is started again.

        May be called any number of times; every call waits until the team has stopped. Cancelling a call does not cut
        that short.

        Raises:
            WrongLoopError: Called in another event loop than `start`. Nothing was stopped.
        """
        self._check_loop("stop")
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name=f"end of run {self.run_id!r}")
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        try:
            await self._hosted.stop()
        finally:
            self._feed.stop()
            await self._listeners.stop()

    def _start_listeners(self) -> None:
        if self._config.progress:
            self._listeners.add(follow_progress, self, name="progress", farewell=FAREWELL_SECONDS)
        for callback in self._config.callbacks:
            events = self._feed.follow_new(self.store, self.run_id)
            farewell = float(getattr(callback, "farewell", FAREWELL_SECONDS))
            self._listeners.add(call_back, callback, self, events, name="callback", farewell=farewell)

    async def __aenter__(self) -> Optimizer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):  # A cancelled block, too, waits until the run is free.
            await self.stop()

    def _on_request(self, request: Request) -> None:
        """Carry out the request of another process."""
        logger.info("run %r: %s asked to %s it (%s)", self.run_id, request.requester, request.kind, request.reason)
        task = asyncio.create_task(self._carry_out(request), name=f"{request.kind} of run {self.run_id!r}")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _carry_out(self, request: Request) -> None:
        try:
            match request.kind:
                case "pause":
                    await self.pause(request.why)
                case "resume":
                    await self.resume()
                case "stop":
                    await self._stop_by_request(request.why)
        except RunError as error:
            logger.warning("could not %s run %r, as %s asked: %s", request.kind, self.run_id, request.requester, error)

    async def _stop_by_request(self, why: str) -> None:
        """Stop, and store that standbys are not to take the run over."""
        with suppress(TimeoutError, RunError):  # If the store can't be written now, or the run has just ended.
            async with asyncio.timeout(STOP_SECONDS):
                await self._tell(Pause(f"stopped: {why}", "stop"))
        await self._hosted.stop_by_request(why)
        if self.role == "owner":
            await self.stop()


def _prepared(config: OptimizerConfig) -> Preparation:
    check_dspy()
    check_other_examples(config.student, config.trainset, config.valset)
    return Preparation.of(config)
