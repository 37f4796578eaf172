"""A run in this process: its team of actors while this process owns it, the wait for it while another one does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal, TypeAlias

from simba_actors.actors import ActorError, ExitReason, Ref, Supervisor, SupervisorEvent
from simba_actors.actors.exits import describe, is_abnormal
from simba_actors.config import OptimizerConfig
from simba_actors.errors import (
    LeaseLostError,
    RunError,
    RunOwnedError,
    RunPausedError,
    RunStoppedError,
    SimbaError,
    StoreError,
    UnknownRunError,
)
from simba_actors.events import ActorCrashed, ActorRestarted, RoleChanged
from simba_actors.hosting.assembly import AssembledRun, assemble
from simba_actors.hosting.preparation import Preparation
from simba_actors.observe.feed import EventFeed
from simba_actors.runtime.logs import get_logger
from simba_actors.store import Owner, Reader
from simba_actors.store.leases import wait_until_free
from simba_actors.store.records import Request, Run
from simba_actors.store.store import store_event

logger = get_logger(__name__)

Role: TypeAlias = Literal["owner", "standby"]

_owners: dict[asyncio.AbstractEventLoop, list[Owner]] = {}
"""Owners that have not retired, by event loop. A loop may be closed while an optimizer runs in it, without `stop`."""


def _retire_owners_of_closed_loops() -> None:
    """Free the runs of closed event loops, on which nothing works any more, for other optimizers of this process."""
    for loop in [loop for loop in _owners if loop.is_closed()]:
        for owner in _owners.pop(loop):
            owner.retire()


class HostedRun:
    """One run in this process, as owner or as standby, until it has ended or was stopped.

    Args:
        config: What to optimize, and how.
        preparation: That of `config`.
        feed: Receives the events.
        on_request: Called with each request from another process.
        may_stand_by: Whether to wait for the run while another process has it.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        preparation: Preparation,
        feed: EventFeed,
        on_request: Callable[[Request], None],
        *,
        may_stand_by: bool,
    ) -> None:
        self._config = config
        self._preparation = preparation
        self._feed = feed
        self._on_request = on_request
        self._may_stand_by = may_stand_by
        self._loop = asyncio.get_running_loop()
        self.role: Role = "owner"
        self.restarts: dict[str, int] = {}
        """Number of restarts of each actor."""
        self.stop_reason: str | None = None
        """Reason of another process's request to stop the run, if there was one."""
        self.outcome: asyncio.Future[None] = self._loop.create_future()
        """Done when the run has its result, or with the error that ended it in this process."""
        self.outcome.add_done_callback(_retrieve)
        self._supervisor: Ref | None = None
        self._standing_by: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        _retire_owners_of_closed_loops()
        self._assemble()

    @property
    def run_id(self) -> str:
        return self.run.new.run_id

    async def start(self) -> None:
        """Start the team, or stand by if that is allowed and another process has the run, or a request stopped it."""
        try:
            await self.run.executor.try_metric()
            if self._may_stand_by and await self._is_stopped():
                logger.warning(
                    "run %r was stopped by a request, and this process stands by until another one resumes it",
                    self.run_id,
                )
                self._stand_by()
                return
            try:
                await self._start_team()
            except RunOwnedError as error:
                if not self._may_stand_by:
                    raise
                logger.info("standing by: %s", error)
                self._stand_by()
        except BaseException as error:
            self._retire()
            self.run.telemetry.end(error)
            await self.run.end()
            raise

    async def wait(self) -> None:
        """Wait until the run has its result. Raise what ended it, or RunPausedError if waiting can't help."""
        while not self.outcome.done():
            gate = self.run.gate
            pausing = gate.pausing
            is_for_long = pausing.cause in ("access", "outage", "failures") and self._config.resume_after is None
            if pausing.reason is not None and is_for_long:
                raise RunPausedError(
                    f"run {self.run_id!r} is paused for {pausing.cause}: {pausing.reason}. Call resume() "
                    "afterwards, or start the run again",
                    pausing.reason,
                )
            changed = asyncio.ensure_future(gate.changed())
            try:
                await asyncio.wait([self.outcome, changed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
        await self.outcome

    async def stop_by_request(self, reason: str) -> None:
        """Stop the team for a request. Then stand by until the run is resumed, if that is allowed."""
        if self._may_stand_by and await self._is_stopped():
            self._leave()
        else:
            self.stop_reason = reason
            await self.stop()

    async def stop(self) -> None:
        """Stop the team and free the run. Every call waits until that is done, even if another call is cancelled."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(), name=f"end of run {self.run_id!r}")
        await asyncio.shield(self._ending)

    def error_of_undelivered(self) -> RunError:
        """Return the error for a message that did not reach the Coordinator."""
        if self._supervisor is None:
            return self._stopped()
        return RunError(f"run {self.run_id!r} was just recovering from a crash: try again")

    def _assemble(self) -> None:
        self.run: AssembledRun = assemble(
            self._config, self._finish, self._feed.notify, self._on_request, self._preparation
        )
        _owners.setdefault(self._loop, []).append(self.run.owner)

    # ── as the owner ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _start_team(self) -> None:
        try:
            with self.run.telemetry.lm_calls():
                supervisor = await Supervisor.start(
                    self.run.team, strategy="rest_for_one", on_event=self._on_supervisor_event
                )
        except ActorError as error:
            raise _root_cause(error) from error
        self._supervisor = supervisor
        supervisor.process().on_exit.append(self._tree_ended)

    async def _end_team(self) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None and supervisor.alive:
            await supervisor.stop()

    def _tree_ended(self) -> None:
        self._retire()
        if self.outcome.done() or self.role == "standby":
            return
        supervisor = self._supervisor
        if supervisor is None:
            self._finish(self._stopped())
        else:
            error = RunError(
                f"run {self.run_id!r} could not continue: {supervisor.exit_reason}; start it again to continue"
            )
            error.__cause__ = _cause(supervisor.exit_reason)
            self._finish(error)

    def _on_supervisor_event(self, event: SupervisorEvent) -> None:
        actor = str(event.child)
        if event.kind == "restarted":
            self.restarts[actor] = self.restarts.get(actor, 0) + 1
            self.run.teammates.report(ActorRestarted(actor=actor, restarts=self.restarts[actor]))
        elif is_abnormal(event.reason):
            reason = self.run.governor.secrets.hide(describe(event.reason))
            self.run.teammates.report(ActorCrashed(actor=actor, reason=reason))

    # ── as a standby ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _stand_by(self) -> None:
        self.role = "standby"
        self._standing_by = asyncio.create_task(self._take_over(), name=f"standby of run {self.run_id!r}")

    async def _take_over(self) -> None:
        """Wait until the run is free and start the team, or until another process has finished the run."""
        try:
            process = self.run.owner.name
            await store_event(self.run.store, self.run_id, RoleChanged(role="standby", process=process))
            async with await Reader.open(self.run.store) as reader:
                self._feed.begin(await reader.last_event(self.run_id))
                while self.role == "standby":
                    run, last_holding = await wait_until_free(
                        reader, self.run_id, on_change=self._feed.wake, on_look=self._look
                    )
                    if run.status == "finished":
                        self._finish(None)
                        return
                    self.run.claim.expired = last_holding
                    self.run.gate.pausing.resume()  # A pause of the last owner ends with its process.
                    try:
                        await self._start_team()
                    except RunOwnedError:
                        continue  # Another standby was faster.
                    except LeaseLostError as error:
                        self.run.gate.failure.set(error)
                    if isinstance(self.run.gate.failure.error, LeaseLostError):
                        logger.warning("run %r was taken over by another process while it started here", self.run_id)
                        self._leave()
                        return
                    self.role = "owner"
            self.run.teammates.report(RoleChanged(role="owner", process=self.run.owner.name))
            logger.info("run %r is taken over by %s", self.run_id, self.run.owner.name)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from taking over is what `result` raises
            self._end_with(error)

    def _end_with(self, error: Exception) -> None:
        """End the run in this process, which can't stand by because of this error."""
        cause = error if isinstance(error, SimbaError) else RunError(f"run {self.run_id!r} was not taken over")
        if cause is not error:
            cause.__cause__ = error
        logger.warning("run %r can't be taken over: %s", self.run_id, error)
        self._finish(cause)

    async def _look(self, reader: Reader, run: Run) -> None:
        """Note whether and why the owner has paused the run, since waiting for its result may not help then."""
        pausing = self.run.gate.pausing
        paused = await reader.last_pause(self.run_id) if run.status == "paused" else None
        if paused is not None and (paused.reason, paused.cause) == (pausing.reason, pausing.cause):
            return
        if pausing.reason is not None:
            pausing.resume()
        if paused is not None:
            pausing.pause(paused.reason, paused.cause)

    async def _is_stopped(self) -> bool:
        try:
            async with await Reader.open(self.run.store) as reader:
                return await reader.is_stopped(await reader.run(self.run_id))
        except (StoreError, UnknownRunError):
            return False  # What is wrong with the store is found, and raised, by the team.

    def _leave(self) -> None:
        self.role = "standby"
        self._standing_by = asyncio.create_task(self._fall_back(), name=f"standby of run {self.run_id!r}")

    async def _fall_back(self) -> None:
        """Stand by after the run was lost to another process, or stopped by a request."""
        try:
            await self._end_team()
            await self.run.end()
            self._assemble()
        except Exception as error:  # noqa: BLE001 - without this, `result` would wait for ever
            self._end_with(error)
        else:
            self._stand_by()

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _end(self) -> None:
        if self._standing_by is not None:
            self._standing_by.cancel()
            await asyncio.wait([self._standing_by])
        await self._end_team()
        if not self.outcome.done():  # A standby has no team that would set the outcome.
            self._retire()
            self._finish(self._stopped())
        await self.run.end()

    def _finish(self, error: SimbaError | None) -> None:
        if self.outcome.done():
            return
        if isinstance(error, LeaseLostError) and self._may_stand_by and self._ending is None:
            if self.role == "owner":
                logger.warning("run %r was taken over by another process: this one stands by", self.run_id)
                self._leave()
            return
        self.run.telemetry.end(error)
        if error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(error)
        self._feed.close()
        if isinstance(error, LeaseLostError) and self._ending is None:
            logger.warning("%s", error)
            self._ending = asyncio.create_task(self._end(), name=f"end of run {self.run_id!r}")

    def _retire(self) -> None:
        self.run.owner.retire()
        owners = [owner for owner in _owners.pop(self._loop, []) if owner is not self.run.owner]
        if owners:
            _owners[self._loop] = owners

    def _stopped(self) -> RunStoppedError:
        why = f": {self.stop_reason}" if self.stop_reason else ""
        return RunStoppedError(f"run {self.run_id!r} was stopped{why}; start it again to continue")


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
