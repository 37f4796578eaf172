"""Optimizer: one run of SIMBA inside a running event loop. The face of the package."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

import anyio
import dspy

from simba_actors.actors import ActorError, ExitReason, Ref, Supervisor, SupervisorEvent
from simba_actors.actors.errors import WrongLoopError
from simba_actors.actors.exits import describe, is_abnormal
from simba_actors.assembly import AssembledRun, assemble
from simba_actors.config import OptimizerConfig
from simba_actors.errors import LeaseLostError, RunError, RunOwnedError, RunPausedError, RunStoppedError, SimbaError
from simba_actors.estimate import Estimate, estimate
from simba_actors.events import ActorCrashed, ActorRestarted, Event, RoleChanged
from simba_actors.fingerprint import ExampleDigests
from simba_actors.logs import get_logger
from simba_actors.observe.feed import EventFeed, Listeners, call_back
from simba_actors.observe.progress import follow_progress
from simba_actors.publishing.publications import Publication
from simba_actors.publishing.run_publisher import RunPublisher
from simba_actors.result import OptimizerResult, Status, read_result
from simba_actors.runtime.threads import NO_THREAD, THREAD_REMEDY, Threads
from simba_actors.store import Owner, Reader
from simba_actors.store.queries import run_queries
from simba_actors.store.records import RolloutRecord
from simba_actors.store.requests import Request, send_request
from simba_actors.store.store import store_event, wait_until_free
from simba_actors.team.messages import COORDINATOR, Pause, Resume

logger = get_logger(__name__)
get_logger("simba_actors.actors")  # Crash reports show messages and states, which may hold what an LM wrote.

Role: TypeAlias = Literal["owner", "standby"]

_owners: dict[asyncio.AbstractEventLoop, list[Owner]] = {}
"""Those that have not retired. A loop may be closed while an optimizer runs in it, without `stop`."""


def _retire_owners_of_closed_loops() -> None:
    """Leave the runs of loops that are closed to other optimizers of this process: nothing works on them any more."""
    for loop in [loop for loop in _owners if loop.is_closed()]:
        for owner in _owners.pop(loop):
            owner.retire()


class Optimizer:
    """One optimization, run by a supervised team of actors.

        async with Optimizer.start(config) as optimizer:
            async for event in optimizer.events():
                print(event)
            result = await optimizer.result()
        result.program.save("best.json")

    The run is in the store at every moment. Started again with the same config, after a crash, a deploy or a `kill -9`,
    it continues where it was.

    Leaving the `async with`, as Ctrl-C makes `asyncio.run` do, stops the run and frees it for another process. Signals
    are the application's: uvicorn shuts down in order at SIGTERM, a script ends at once, unless it says
    `signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))` first.

    An Optimizer belongs to the event loop in which it was started. Only `status` may be called in another one.
    """

    def __init__(self, config: OptimizerConfig) -> None:
        """Raise TypeError: an Optimizer is made by `await Optimizer.start(config)`."""
        raise TypeError(
            "Optimizer(config) starts nothing: use `async with Optimizer.start(config) as optimizer:` or "
            "`optimizer = await Optimizer.start(config)`"
        )

    @classmethod
    def start(cls, config: OptimizerConfig, *, standby: bool = False) -> Starting:
        """Start the run that `config` describes, or continue it.

            async with Optimizer.start(config) as optimizer: ...     # stops the run at the end of the block
            optimizer = await Optimizer.start(config)                # for `await optimizer.stop()` later

        Awaiting it returns once the team is up. Rollouts get the context of that call: `dspy.context`, contextvars.

        Args:
            config: What to optimize, and how.
            standby: What to do if another process has the run open: with True, wait as a standby, and take the run over
                when that process stops or dies. See `role`. Several workers of one service are started like this.

        Raises:
            NoLMError: No LM is set for the student.
            MetricError: The metric, tried on one example and its labels, is broken.
            StoreError: The store's file can't be used.
            RunOwnedError: Another process has the run open, and `standby` is False.
            FingerprintMismatchError: The stored run has another student, trainset, metric or settings.
        """
        return Starting(lambda: cls._started(config, standby=standby))

    @staticmethod
    async def estimate(config: OptimizerConfig, *, rollouts: int = 8) -> Estimate:
        """Return what the run that `config` describes would take: calls, tokens, cost and time.

            print(await Optimizer.estimate(config))    # before any more money is spent than for eight rollouts

        The student is run on so many examples, as `evaluate` does; nothing is stored. Once a run has closed its first
        step, the event `BudgetForecast` says the same from what the step took.

        Args:
            config: What to optimize, and how.
            rollouts: Number of rollouts of the student to estimate from.

        Raises:
            NoLMError: No LM is set for the student.
            MetricError: The metric raised, or returned no score.
            LMAccessError, LMUnavailableError, RolloutTimeoutError: As for `evaluate`.
        """
        return await estimate(config, rollouts=rollouts)

    @classmethod
    async def _started(cls, config: OptimizerConfig, *, standby: bool) -> Optimizer:
        optimizer = cls.__new__(cls)
        threads = Threads()
        try:
            digests = await threads.run(lambda: ExampleDigests.of(config))
            optimizer._prepare(config, digests, standby=standby)
        except RuntimeError as error:
            if str(error) != NO_THREAD:
                raise
            raise RunError(f"no run is started, since the process can't start a thread: {THREAD_REMEDY}") from error
        finally:
            await threads.close()
        try:
            await optimizer._run.executor.try_metric()
            await optimizer._start_team_or_stand_by()
        except BaseException as error:
            optimizer._retire()
            optimizer._run.telemetry.end(error)
            await optimizer._run.end()
            raise
        await optimizer._look_at_channel()
        optimizer._start_listeners()
        return optimizer

    def _prepare(self, config: OptimizerConfig, digests: ExampleDigests, *, standby: bool) -> None:
        self._config = config
        self._may_stand_by = standby
        self._role: Role = "owner"
        self._standing_by: asyncio.Task[None] | None = None
        self._stop_reason: str | None = None
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[None] = self._loop.create_future()
        self._outcome.add_done_callback(_retrieve)
        self._feed = EventFeed()
        self._restarts: dict[str, int] = {}
        _retire_owners_of_closed_loops()
        self._digests = digests
        self._assemble()
        self._publisher = RunPublisher(self._run.store, config.channel, self._run.new.run_id, self._run.space)
        self._supervisor: Ref | None = None
        self._listeners = Listeners()
        self._ending: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()

    def _assemble(self) -> None:
        self._run: AssembledRun = assemble(
            self._config, self._finished, self._feed.notify, self._on_request, self._digests
        )
        _owners.setdefault(self._loop, []).append(self._run.owner)

    async def _start_team_or_stand_by(self) -> None:
        try:
            await self._start_team()
        except RunOwnedError as error:
            if not self._may_stand_by:
                raise
            logger.info("standing by: %s", error)
            self._stand_by()

    def _stand_by(self) -> None:
        self._role = "standby"
        self._standing_by = asyncio.create_task(self._take_over(), name=f"standby of run {self.run_id!r}")

    async def _take_over(self) -> None:
        """Wait until the run is free, and start the team; or until another process has finished the run."""
        try:
            await self._store_role()
            async with await Reader.open(self._run.store) as reader:
                self._feed.begin(await reader.last_event(self.run_id))
                while self._role == "standby":
                    run = await wait_until_free(reader, self.run_id, on_change=self._feed.wake)
                    if run.status == "finished":
                        self._finished(None)
                        return
                    try:
                        await self._start_team()
                    except RunOwnedError:
                        continue  # Another standby was faster.
                    self._role = "owner"
            self._run.teammates.report(RoleChanged(role="owner", process=self._run.owner.name))
            logger.info("run %r is taken over by %s", self.run_id, self._run.owner.name)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from taking over is what `result` raises
            cause = error if isinstance(error, SimbaError) else RunError(f"run {self.run_id!r} was not taken over")
            if cause is not error:
                cause.__cause__ = error
            logger.warning("run %r can't be taken over: %s", self.run_id, error)
            self._finished(cause)

    async def _store_role(self) -> None:
        """Store that this process stands by, in the log of a run that another process writes."""
        event = RoleChanged(role="standby", process=self._run.owner.name)
        await store_event(self._run.store, self.run_id, event)

    async def _fall_back(self) -> None:
        """Stand by after the run was lost to another process."""
        await self._end_team()
        await self._run.end()
        self._assemble()
        self._stand_by()

    async def _start_team(self) -> None:
        try:
            with self._run.telemetry.lm_calls():
                supervisor = await Supervisor.start(
                    self._run.team, strategy="rest_for_one", on_event=self._on_supervisor_event
                )
        except ActorError as error:
            raise _root_cause(error) from error
        self._supervisor = supervisor
        supervisor.process().on_exit.append(self._tree_ended)

    def __repr__(self) -> str:
        return f"<Optimizer of run {self.run_id!r} in {str(self.store)!r}>"

    @property
    def run_id(self) -> str:
        """The run's name in the store."""
        return self._run.new.run_id

    @property
    def store(self) -> Path:
        """The file that keeps the run."""
        return self._run.store

    @property
    def role(self) -> Role:
        """Whether this process does the run's work ("owner"), or waits to take it over ("standby").

        Only with `start(config, standby=True)` it is ever "standby". Everything works in either role: `status`,
        `events`, `result` and publishing; `pause` and `resume` are passed on to the owner. The run is taken over within
        a second after its owner stopped, or died on this host, and within `LEASE_SECONDS` and a second after it died
        elsewhere. Each change is a `RoleChanged` event.
        """
        return self._role

    async def result(self, timeout: float | None = None) -> OptimizerResult:
        """Return what the run found, once it is finished. Cancelling this call does not cancel the run.

        Args:
            timeout: Seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: The run is not finished by then. It continues.
            RunPausedError: The run is paused, and waiting can't help: an LM refused to serve, or could not be reached
                for longer than the grace period. Put that right, `resume`, and ask again. With
                `OptimizerConfig(resume_after=…)` the run continues automatically, and this call waits.
            MetricError: The metric raised, or gave no number. The run can continue when that is mended.
            StopperError: `stop_when` raised, or gave no verdict. The run can continue when that is mended.
            RunStoppedError: The run was stopped first. It can continue.
            LeaseLostError: Another process has taken the run over, and continues it.
            RunError: The team failed too often to continue; the cause is chained. The run can continue.
        """
        self._check_loop("result")
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await self._wait_for_end()
        except TimeoutError as error:
            if not limit.expired():
                raise
            status = await self.status()
            raise TimeoutError(
                f"run {self.run_id!r} is {status.status} after {timeout:g} s, and has no result yet: ask again, or "
                "set a budget"
            ) from error
        async with await Reader.open(self._run.store) as reader:
            return await read_result(reader, self.run_id, self._config.student, self._run.space)

    async def _wait_for_end(self) -> None:
        while not self._outcome.done():
            gate = self._run.gate
            pausing = gate.pausing
            if pausing.reason is not None and pausing.cause != "user" and self._config.resume_after is None:
                raise RunPausedError(
                    f"run {self.run_id!r} is paused for {pausing.cause}: {pausing.reason}. Waiting can't help: call "
                    "resume() when that is mended, or start the run again",
                    pausing.reason,
                )
            changed = asyncio.ensure_future(gate.changed())
            try:
                await asyncio.wait([self._outcome, changed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
        await self._outcome

    def events(self, after: int = 0) -> AsyncGenerator[Event]:
        """Return the run's events with a seq above `after`: those stored so far, then new ones, until the run is over.

        Another process follows the run with `simba_actors.observe.follow_events`.
        """
        self._check_loop("events")
        return self._feed.follow(self._run.store, self.run_id, after)

    def rollouts(self) -> AsyncGenerator[RolloutRecord]:
        """Return the run's rollouts: those that have a result so far, then new ones, until the run is over.

            async for record in optimizer.rollouts():
                print(record.rollout.program, record.rollout.example, record.trajectory.score)

        Each has what was planned, `record.rollout`, and what came of it, `record.trajectory`: the score, the
        prediction, the predictors' calls, the metric's feedback, the error if there was one, usage and seconds. Those
        that have a result already come first, by step; then new ones as they are stored.
        """
        self._check_loop("rollouts")
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
                rollouts=summary.rollouts_done,
                restarts=dict(self._restarts),
                progress=await reader.progress(self.run_id),
                usage_by_lm=await reader.usage_by_lm(self.run_id),
            )

    async def pause(self, reason: str = "paused by the user") -> None:
        """Start no more LM work. Rollouts in flight end and are stored. A run that has its result is left as it is.

        Raises:
            RunStoppedError: The run was stopped.
            RunError: The run has failed; the cause is chained.
        """
        self._check_loop("pause")
        if self._role == "standby":
            await send_request(self.store, self.run_id, "pause", reason=reason)
        else:
            await self._tell(Pause(reason))

    async def resume(self) -> None:
        """Continue after a pause. A run that has its result is left as it is.

        Raises:
            RunStoppedError: The run was stopped. Started again, it continues.
            RunError: The run has failed; the cause is chained. Started again when that is mended, it continues.
        """
        self._check_loop("resume")
        if self._role == "standby":
            await send_request(self.store, self.run_id, "resume", reason="resumed by a standby")
        else:
            await self._tell(Resume())

    def _check_loop(self, method: str) -> None:
        """Raise WrongLoopError, before anything changes, if this is not the loop that the optimizer belongs to."""
        if asyncio.get_running_loop() is not self._loop:
            raise WrongLoopError(
                f"Optimizer.{method} was called in another event loop than the one the optimizer was started in: use "
                f"asyncio.run_coroutine_threadsafe(optimizer.{method}(), loop) with that one"
            )

    async def _tell(self, message: Pause | Resume) -> None:
        """Send a message to the Coordinator of a run that has not ended."""
        if not self._outcome.done():
            try:
                await self._run.teammates.via(COORDINATOR).call(message, timeout=None)
            except ActorError as error:
                raise self._unheard() from error
            return
        error = self._outcome.exception()
        if isinstance(error, RunError):
            raise error
        if error is not None:
            raise RunError(f"run {self.run_id!r} has failed: {error}. Started again, it continues") from error

    def _unheard(self) -> RunError:
        """Return why the Coordinator did not get a message."""
        if self._supervisor is None:
            return self._stopped()
        return RunError(f"run {self.run_id!r} was just recovering from a crash: try again")

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
            share: The part of calls that it gets, above 0 and below 1; by default all.
            expected: The channel's newest version that the publisher knows of; by default the one that this optimizer
                saw when it started or last published, or what the run and the canary test published on their own since.
            reason: For the channel's history.
            by: Whoever publishes; by default the user at this machine.

        Raises:
            ConfigError: `share` is out of range, or `program` is neither a number nor a module. Nothing was published.
            MisfitError: `program` has other predictors or fields than the student.
            VersionConflictError: Somebody else has published since; nothing was.
            RunError: There is no winner yet.
            UnknownProgramError: The run has no program of that number.
        """
        published = await self._publisher.publish(program, share=share, expected=expected, reason=reason, by=by)
        self._loop.call_soon_threadsafe(self._feed.wake)
        return published

    async def rollback(
        self, to: int | None = None, *, reason: str = "rolled back by hand", by: str | None = None
    ) -> Publication:
        """Bring back version `to` of the config's `channel`; by default what was served before.

        Raises:
            UnknownChannelError, UnknownVersionError: There is no such version.
            PrunedVersionError: Its configuration is gone.
        """
        published = await self._publisher.rollback(to, reason=reason, by=by)
        self._loop.call_soon_threadsafe(self._feed.wake)
        return published

    async def stop(self) -> None:
        """End the team and close the store. An unfinished run continues when it is started again.

        May be called any number of times; every call waits for the same end. Cancelling a call does not cut it short.

        Raises:
            WrongLoopError: Called in another event loop than `start`. Nothing was stopped.
        """
        self._check_loop("stop")
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name=f"end of run {self.run_id!r}")
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        if self._standing_by is not None:
            self._standing_by.cancel()
            await asyncio.wait([self._standing_by])
        await self._end_team()
        if not self._outcome.done():  # A standby has no team that tells.
            self._retire()
            self._finished(self._stopped())
        await self._run.end()
        await self._listeners.stop()

    async def _end_team(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None and supervisor.alive:
            await supervisor.stop()

    def _start_listeners(self) -> None:
        if self._config.progress:
            self._listeners.add(follow_progress, self, name="progress")
        for callback in self._config.callbacks:
            events = self._feed.follow_new(self.store, self.run_id)
            self._listeners.add(call_back, callback, events, name="callback")

    async def __aenter__(self) -> Optimizer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):  # A cancelled block waits for the run to be free, too.
            await self.stop()

    async def _look_at_channel(self) -> None:
        try:
            await self._publisher.look()
        except BaseException:
            await self.stop()
            raise

    def _finished(self, error: SimbaError | None) -> None:
        if self._outcome.done():
            return
        if isinstance(error, LeaseLostError) and self._may_stand_by and self._ending is None:
            if self._role == "owner":
                self._role = "standby"
                logger.warning("run %r was taken over by another process: this one stands by", self.run_id)
                self._standing_by = asyncio.create_task(self._fall_back(), name=f"standby of run {self.run_id!r}")
            return
        self._run.telemetry.end(error)
        if error is None:
            self._outcome.set_result(None)
        else:
            self._outcome.set_exception(error)
        self._feed.close()
        if isinstance(error, LeaseLostError) and self._ending is None:
            logger.warning("%s", error)
            self._ending = asyncio.create_task(self._end(), name=f"end of run {self.run_id!r}")

    def _retire(self) -> None:
        self._run.owner.retire()
        owners = [owner for owner in _owners.pop(self._loop, []) if owner is not self._run.owner]
        if owners:
            _owners[self._loop] = owners

    def _tree_ended(self) -> None:
        self._retire()
        if self._outcome.done() or self._role == "standby":
            return
        supervisor = self._supervisor
        if supervisor is None:
            self._finished(self._stopped())
        else:
            error = RunError(
                f"run {self.run_id!r} could not go on: {supervisor.exit_reason}; started again, it continues"
            )
            error.__cause__ = _cause(supervisor.exit_reason)
            self._finished(error)

    def _stopped(self) -> RunStoppedError:
        why = f": {self._stop_reason}" if self._stop_reason else ""
        return RunStoppedError(f"run {self.run_id!r} was stopped{why}; started again, it continues")

    def _on_request(self, request: Request) -> None:
        """Do what another process has asked."""
        logger.info("run %r: %s asked to %s it (%s)", self.run_id, request.requester, request.kind, request.reason)
        task = asyncio.create_task(self._obey(request), name=f"{request.kind} of run {self.run_id!r}")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _obey(self, request: Request) -> None:
        try:
            match request.kind:
                case "pause":
                    await self.pause(f"{request.reason} (asked by {request.requester})")
                case "resume":
                    await self.resume()
                case "stop":
                    self._stop_reason = f"{request.reason} (asked by {request.requester})"
                    await self.stop()
        except RunError as error:
            logger.warning("run %r could not %s as %s asked: %s", self.run_id, request.kind, request.requester, error)

    def _on_supervisor_event(self, event: SupervisorEvent) -> None:
        actor = str(event.child)
        if event.kind == "restarted":
            self._restarts[actor] = self._restarts.get(actor, 0) + 1
            self._run.teammates.report(ActorRestarted(actor=actor, restarts=self._restarts[actor]))
        elif is_abnormal(event.reason):
            reason = self._run.governor.secrets.hide(describe(event.reason))
            self._run.teammates.report(ActorCrashed(actor=actor, reason=reason))


class Starting:
    """A run that is about to start: await it, or enter it as an async context manager."""

    def __init__(self, start: Callable[[], Awaitable[Optimizer]]) -> None:
        self._start: Callable[[], Awaitable[Optimizer]] | None = start
        self._optimizer: Optimizer | None = None

    def __await__(self) -> Generator[Any, None, Optimizer]:
        start, self._start = self._start, None
        if start is None:
            raise RuntimeError("this Optimizer.start(config) was awaited already: call Optimizer.start again")
        return start().__await__()

    async def __aenter__(self) -> Optimizer:
        self._optimizer = await self
        return self._optimizer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._optimizer is not None:
            await self._optimizer.__aexit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        if hasattr(Optimizer, name):
            raise AttributeError(
                f"Optimizer.start(config) has not started yet, so it has no {name!r}: write "
                "`optimizer = await Optimizer.start(config)`"
            )
        raise AttributeError(name)

    def __del__(self) -> None:
        if getattr(self, "_start", None) is not None:
            warnings.warn(
                "Optimizer.start(config) was never awaited, so nothing was started: write "
                "`optimizer = await Optimizer.start(config)`",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )


def _root_cause(error: BaseException) -> BaseException:
    """Return the SimbaError that kept an actor from starting, or `error` itself if there is none."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, SimbaError):
            return current
        reason = getattr(current, "reason", None)  # Some of Python's errors have a string by that name.
        current = reason if isinstance(reason, BaseException) else current.__cause__
    return error


def _cause(reason: ExitReason | None) -> BaseException | None:
    detail = getattr(reason, "detail", None)
    return detail if isinstance(detail, BaseException) else None


def _retrieve(outcome: asyncio.Future[None]) -> None:
    """Keep asyncio from warning about an outcome that is never retrieved."""
    if not outcome.cancelled():
        outcome.exception()
