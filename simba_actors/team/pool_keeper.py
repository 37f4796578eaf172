"""The PoolKeeper: the one writer of the store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from simba_actors.actors import (
    IDLE,
    CallReturn,
    CastReturn,
    ExitReason,
    From,
    GenServer,
    Idle,
    InitReturn,
    NoReply,
    Registry,
    reply,
)
from simba_actors.actors.server_process import ServerProcess
from simba_actors.errors import LeaseLostError, StoreError
from simba_actors.events import Event
from simba_actors.lm.budget import BudgetTracker
from simba_actors.observe.telemetry import Telemetry
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.runtime.logs import get_logger
from simba_actors.search.evidence import Evidence
from simba_actors.store import Owner
from simba_actors.store.connection import LogDeletedError
from simba_actors.store.queries import ledger_queries
from simba_actors.store.records import (
    ActorGauge,
    AddProgram,
    NewRun,
    Program,
    RecordGauges,
    RecordProposal,
    Request,
    SetStatus,
    Write,
)
from simba_actors.store.store import Store
from simba_actors.team.messages import (
    Commit,
    Ledger,
    Read,
    ReadBuckets,
    ReadConfiguration,
    ReadLedger,
    ReadObjectives,
    ReadPool,
    ReadPrograms,
    ReadProposals,
    ReadRollouts,
    ReadUsage,
    StoreReports,
    Teammates,
)
from simba_actors.team.pool_view import PoolView, ProgramIndex
from simba_actors.team.run_state import Claim, Lease, StoreTrouble

logger = get_logger(__name__)

BUSY_SECONDS = 0.5
"""Seconds that a commit waits for another writer before it fails. The PoolKeeper handles no messages meanwhile."""

RETRY_SECONDS = 1.0
"""Seconds until a failed commit or read is tried again."""

GAUGE_SECONDS = 1.0
"""Minimum seconds between two commits that store how busy the actors are. A commit that changes the status always
does."""

HEARTBEAT_SECONDS = 10.0
"""Seconds between renewals of the lease by an idle PoolKeeper: a third of the lease."""

REQUESTED = object()
"""The message that tells a PoolKeeper of new requests in the store."""


@runtime_checkable
class RunsRollouts(Protocol):
    """An actor that runs rollouts."""

    @property
    def rollouts_running(self) -> int: ...


@dataclass(slots=True)
class PoolState:
    """The open store, and the commits that wait for the next transaction."""

    store: Store
    has_lost_the_run: bool = False
    """Whether another process has taken the run over."""
    gauges_due: float = 0.0
    """The loop time from which on a commit stores how busy the actors are."""
    pool: PoolView | None = None
    """The pool as last read; None if it was not read yet or programs were added since."""
    programs: Mapping[int, Program] = field(default_factory=dict[int, Program])
    """The programs of the pool, by number, as stored. A program never changes."""
    unread: set[int] | None = None
    """Programs that were stored since `programs` was read; None if it was not read yet."""
    configurations: Mapping[int, Configuration] = field(default_factory=dict[int, Configuration])
    """The configurations of `programs`."""
    index: ProgramIndex | None = None
    """What `programs` are made of."""
    waiting: list[tuple[Commit, From[None] | None]] = field(default_factory=list[tuple[Commit, From[None] | None]])
    """Commits for the next transaction, each with the sender that waits for it, if one does."""
    unanswered: list[tuple[Read[Any], From[Any]]] = field(default_factory=list[tuple[Read[Any], From[Any]]])
    """Questions that arrived while the file could not be read or a commit waited."""


class PoolKeeper(GenServer[PoolState]):
    """Owns the store's connection. Commits that arrive together share one transaction.

    A commit is answered once it is safe. While the file cannot be written or read, commits and questions are kept and
    tried again, their senders wait, and no LM call starts, so nothing happens that is not stored.

    If another process takes the run over, the PoolKeeper calls `lost` once and stores nothing any more.
    """

    trap_exit = True

    def __init__(
        self,
        teammates: Teammates,
        *,
        path: Path,
        run: NewRun,
        owner: Owner,
        claim: Claim,
        student: Configuration,
        space: ConfigurationSpace,
        budget: BudgetTracker,
        trouble: StoreTrouble,
        lease: Lease,
        lost: Callable[[LeaseLostError], None],
        telemetry: Telemetry,
        on_stored: Callable[[Sequence[Event]], None],
        on_request: Callable[[Request], None],
    ) -> None:
        self._teammates = teammates
        self._path = path
        self._run = run
        self._owner = owner
        self._claim = claim
        self._student, self._space = student, space
        self._budget = budget
        self._trouble = trouble
        self._lease, self._lost = lease, lost
        self._telemetry = telemetry
        self._on_stored, self._on_request = on_stored, on_request

    async def init(self) -> InitReturn:
        self.state = PoolState(await self._open_store_with_retries())
        return Idle(HEARTBEAT_SECONDS)

    async def terminate(self, reason: ExitReason) -> None:
        try:
            await self._commit_waiting(renew=True)
            await self.state.store.release(self._run.run_id, self._owner)
        except StoreError as error:  # What is not stored is done again when the run is continued.
            logger.warning("run %r could not be released in its store: %s", self._run.run_id, error)
        finally:
            await self.state.store.close()

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case Commit():
                self.state.waiting.append((message, sender))
                return NoReply(Idle(0))
            case Read():
                self.state.unanswered.append((cast("Read[Any]", message), sender))
                await self._commit_waiting()
                await self._answer()
                return NoReply(self._idle())
            case _:
                return await super().handle_call(message, sender)

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case Commit():
                self.state.waiting.append((message, None))
                return Idle(0)
            case StoreReports():
                return Idle(0)
            case _:
                return await super().handle_cast(message)

    async def handle_info(self, message: Any) -> CastReturn:
        if message is REQUESTED:
            await self._take_requests()
        elif message is IDLE:
            await self._commit_waiting(renew=True)
            await self._answer()
        else:
            return await super().handle_info(message)
        return self._idle()

    def format_state(self) -> str:
        return f"{len(self.state.waiting)} commits waiting"

    def _idle(self) -> Idle:
        return Idle(HEARTBEAT_SECONDS if self._trouble.reason is None else RETRY_SECONDS)

    async def _open_store_with_retries(self) -> Store:
        """Open the store and claim the run. A PoolKeeper restarted within a run waits until the file can be used."""
        while True:
            try:
                return await self._open_store()
            except LeaseLostError as error:
                self._lost(error)
                raise
            except StoreError as error:
                if not self._claim.is_made:
                    raise
                self._note_trouble(error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _open_store(self) -> Store:
        run_id = self._run.run_id
        store = await Store.open(self._path, busy_seconds=BUSY_SECONDS, make=not self._claim.is_made)
        self.ref.target.on_exit.append(store.abandon)  # A killed PoolKeeper gets no chance to close it.
        try:
            wake = partial(self.ref.send, REQUESTED)
            await store.claim(self._run, self._owner, wake, expired=self._claim.expired)
            if not self._claim.is_made:
                await store.take_requests(run_id, self._owner)  # They were meant for an owner that is gone.
            self._budget.restore(await store.read.spending(run_id), await store.read.usage_of_results(run_id))
        except BaseException:
            try:
                await store.release(run_id, self._owner)
            finally:
                await store.close()
            raise
        self._claim.is_made = True
        self._lease.renew()
        return store

    async def _commit_waiting(self, *, renew: bool = False) -> None:
        """Store everything that waits in one transaction. With nothing waiting, do so only to `renew` the lease."""
        if self.state.has_lost_the_run:
            return
        # Taken before the transaction starts: a PoolKeeper that is cancelled during it must not store them again.
        waiting, self.state.waiting = self.state.waiting, []
        reports = self._teammates.take_reports()
        if not (waiting or reports or renew):
            return
        commits = [commit for commit, _ in waiting]
        writes = [*self._budget.writes(), *self._gauges(commits), *(write for c in commits for write in c.writes)]
        events = [*reports, *(event for commit in commits for event in commit.events)]
        try:
            stamped = await self.state.store.commit(self._run.run_id, self._owner, writes, events)
        except LeaseLostError as error:
            self.state.has_lost_the_run = True
            self._lost(error)
            return
        except StoreError as error:
            self.state.waiting = [*waiting, *self.state.waiting]
            self._teammates.put_back_reports(reports)
            if not isinstance(error, LogDeletedError):
                self._note_trouble(error)
                return
            logger.warning("run %r opens its store again: %s", self._run.run_id, error)
            await self.state.store.close()
            self.state.store = await self._open_store_with_retries()
            await self._commit_waiting(renew=True)
            return
        self._lease.renew()
        self._note_health()
        self._budget.stored(writes)
        self._note_programs(writes)
        for _, sender in waiting:
            if sender is not None:
                reply(sender, None)
        self._on_stored(stamped)

    def _note_programs(self, writes: Iterable[Write]) -> None:
        """Note the programs that were stored."""
        programs = [write.program for write in writes if isinstance(write, AddProgram | RecordProposal)]
        added = {program.number for program in programs if program is not None}
        if added and self.state.unread is not None:
            self.state.unread |= added
            self.state.pool = None

    async def _answer(self) -> None:
        """Answer questions in order, as long as the file can be read and no commit waits."""
        while self.state.unanswered and not self.state.waiting:
            message, sender = self.state.unanswered[0]
            try:
                answer = await self._read(message)
            except StoreError as error:
                self._note_trouble(error)
                return
            self.state.unanswered.pop(0)
            reply(sender, answer)
            self._note_health()

    async def _read(self, message: Read[Any]) -> Any:
        run_id, read = self._run.run_id, self.state.store.read
        match message:
            case ReadConfiguration(program=program):
                return (await self._pool()).configurations[program]
            case ReadPool():
                return await self._pool()
            case ReadRollouts(step=step, phase=phase, program=program):
                return tuple(await read.rollouts(run_id, step, phase, program))
            case ReadBuckets(step=step, examples=examples):
                return await read.buckets(run_id, step, examples)
            case ReadPrograms():
                await self._pool()
                return tuple(self.state.programs.values())
            case ReadObjectives(names=names):
                return {name: Evidence(await read.objective_scores(run_id, name)) for name in names}
            case ReadProposals(step=step):
                return tuple(await read.proposals(run_id, step))
            case ReadUsage(step=step):
                return await read.usage_by_lm(run_id, step)
            case ReadLedger():
                return await self._ledger()
            case _:
                raise TypeError(f"the PoolKeeper can't answer {message!r}")

    async def _take_requests(self) -> None:
        """Pass on what other processes have asked of this run."""
        if self.state.has_lost_the_run:
            return
        try:
            requests = await self.state.store.take_requests(self._run.run_id, self._owner)
        except LeaseLostError as error:
            self.state.has_lost_the_run = True
            self._lost(error)
        except StoreError as error:
            self._note_trouble(error)
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self.ref.send, REQUESTED)
        else:
            for request in requests:
                self._on_request(request)

    def _note_trouble(self, error: StoreError) -> None:
        if self._trouble.reason != str(error):
            logger.warning(
                "run %r waits for its store, and tries again every %g s: %s", self._run.run_id, RETRY_SECONDS, error
            )
        self._trouble.set(str(error))

    def _note_health(self) -> None:
        """End the trouble once everything is stored and all questions are answered."""
        if self._trouble.reason is not None and not self.state.unanswered:
            self._trouble.set(None)

    def _gauges(self, commits: Sequence[Commit]) -> list[RecordGauges]:
        now = asyncio.get_running_loop().time()
        changes_status = any(isinstance(write, SetStatus) for commit in commits for write in commit.writes)
        if now < self.state.gauges_due and not changes_status:
            return []
        self.state.gauges_due = now + GAUGE_SECONDS
        gauges = tuple(_gauges(self._teammates.registry))
        self._telemetry.gauges(gauges)
        return [RecordGauges(gauges)]

    async def _pool(self) -> PoolView:
        """Return the pool. Only programs that were not read before are read: a long run has many thousands."""
        state = self.state
        if state.pool is None:
            added = await state.store.read.ask(_programs, self._run.run_id, state.unread)
            programs = {program.number: program for program, _ in added}
            state.programs = dict(sorted({**state.programs, **programs}.items()))
            configurations = {program.number: configuration for program, configuration in added}
            state.configurations = {**state.configurations, **configurations}
            state.index = state.index or ProgramIndex(self._student)
            state.pool = PoolView(state.configurations, self._student, self._space, state.index)
            state.unread = set()
        return state.pool

    async def _ledger(self) -> Ledger:
        run_id, read = self._run.run_id, self.state.store.read
        return Ledger(
            await read.run(run_id),
            await read.position(run_id),
            (await self._pool()).configurations,
            Evidence(await read.scores(run_id)),
            await read.progress(run_id),
            tuple(await read.set_aside(run_id)),
        )


def _programs(
    db: sqlite3.Connection, run_id: str, numbers: Collection[int] | None
) -> list[tuple[Program, Configuration]]:
    """Return programs with their configurations. Called in the store's thread, since there may be many large ones."""
    found = ledger_queries.find_programs(db, run_id, numbers)
    return [(program, Configuration.from_json(program.configuration)) for program in found]


def _gauges(registry: Registry) -> Iterator[ActorGauge]:
    """Yield the load of each running actor."""
    for name in registry.keys():  # noqa: SIM118 - a Registry is not a mapping
        ref = registry.whereis(name)
        if ref is not None and isinstance(ref.target, ServerProcess):
            process, counts = ref.target, ref.target.statistics
            handled = counts.calls + counts.casts + counts.infos
            running = process.server.rollouts_running if isinstance(process.server, RunsRollouts) else None
            yield ActorGauge(str(name), process.mailbox.qsize(), handled, process.server.format_state(), running)
