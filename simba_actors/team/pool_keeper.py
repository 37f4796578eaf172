"""The one writer of the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    Reply,
    reply,
)
from simba_actors.errors import StoreError
from simba_actors.programs import Configuration
from simba_actors.search.evidence import Evidence
from simba_actors.store import Store
from simba_actors.store.records import AddProgram, RecordGauges, RecordProposal, ReserveCalls, SetStatus
from simba_actors.team.gauges import read_gauges
from simba_actors.team.messages import (
    Commit,
    Ledger,
    ReadConfiguration,
    ReadLedger,
    ReadObjectives,
    ReadPool,
    ReadProposals,
    ReadRollouts,
    ReadUsage,
    StoreReports,
)
from simba_actors.team.setup import RunSetup

logger = logging.getLogger(__name__)

BUSY_SECONDS = 0.5
"""How long a commit waits for another writer before it counts as refused; the keeper hears nothing meanwhile."""

RETRY_SECONDS = 1.0
"""How soon a commit that the file refused (locked, full) is tried again."""

GAUGE_SECONDS = 1.0
"""How often, at most, a commit brings the actors' gauges along, but for those that change the run's status."""

HEARTBEAT_SECONDS = 10.0
"""How often an idle PoolKeeper renews its lease: a third of the lease."""


@dataclass(slots=True)
class PoolState:
    """The open store, and the commits that wait for the next transaction.

    `configurations` are those of the pool's programs, but for new ones where `grown`. `gauges_due` is the loop time
    from which on a commit brings the actors' gauges.
    """

    store: Store
    gauges_due: float = 0.0
    configurations: Mapping[int, Configuration] = field(default_factory=dict[int, Configuration])
    grown: bool = True
    waiting: list[tuple[Commit, From[None] | None]] = field(default_factory=list[tuple[Commit, From[None] | None]])


class PoolKeeper(GenServer[PoolState]):
    """Owns the store's connection. Commits that arrive together share one transaction.

    A commit is answered when it is safe. Where the file can't be written for now, it waits and is tried again, and so
    does whoever asked for it; no LM is called meanwhile: nothing goes on that is not stored.
    """

    trap_exit = True

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup

    async def init(self) -> InitReturn:
        self.state = PoolState(await self._claimed())
        return Idle(HEARTBEAT_SECONDS)

    async def _claimed(self) -> Store:
        """The store, with the run claimed. Restarted within a run, a PoolKeeper waits until the file can be written."""
        while True:
            try:
                return await self._claim()
            except StoreError as error:
                if not self._setup.gate.announced:
                    raise
                logger.warning("%s: it is tried again in %g s", error, RETRY_SECONDS)
                self._setup.gate.tell_trouble(str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _claim(self) -> Store:
        new = not self._setup.gate.announced
        store = await Store.open(self._setup.store, busy_seconds=BUSY_SECONDS, make=new)
        self.ref.target.on_exit.append(store.abandon)  # Killed, it gets no chance to close it.
        try:
            await store.claim(self._setup.run, self._setup.owner)
            await self._fill_purse(store)
        except BaseException:
            try:
                await store.release(self._setup.run.run_id, self._setup.owner)
            finally:
                await store.close()
            raise
        return store

    async def _fill_purse(self, store: Store) -> None:
        """Tells the purse what earlier lives used."""
        run_id, read = self._setup.run.run_id, store.read
        self._setup.purse.fill(
            await read.calls_reserved(run_id), await read.usage(run_id), await read.seconds_up(run_id)
        )

    async def terminate(self, reason: ExitReason) -> None:
        try:
            await self._commit_waiting()
            await self.state.store.release(self._setup.run.run_id, self._setup.owner)
        finally:
            await self.state.store.close()

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        run_id, read = self._setup.run.run_id, self.state.store.read
        match message:
            case Commit():
                self.state.waiting.append((message, sender))
                return NoReply(Idle(0))
            case ReadConfiguration(program=program):
                await self._commit_waiting()
                return self._then(Reply((await self._configurations())[program]))
            case ReadPool():
                await self._commit_waiting()
                return self._then(Reply(await self._configurations()))
            case ReadRollouts(step=step, phase=phase, program=program):
                await self._commit_waiting()
                return self._then(Reply(tuple(await read.rollouts(run_id, step, phase, program))))
            case ReadObjectives(names=names):
                await self._commit_waiting()
                scores = {name: Evidence(await read.objective_scores(run_id, name)) for name in names}
                return self._then(Reply(scores))
            case ReadProposals(step=step):
                await self._commit_waiting()
                return self._then(Reply(tuple(await read.proposals(run_id, step))))
            case ReadUsage(step=step):
                await self._commit_waiting()
                return self._then(Reply(await read.usage_by_lm(run_id, step)))
            case ReadLedger():
                await self._commit_waiting()
                return self._then(Reply(await self._ledger()))
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
        if message is not IDLE:
            return await super().handle_info(message)
        await self._commit_waiting(renew=True)
        return self._idle()

    def format_state(self) -> str:
        return f"{len(self.state.waiting)} commits waiting"

    def _then(self, answer: Reply[Any]) -> Reply[Any]:
        return Reply(answer.value, self._idle())

    def _idle(self) -> Idle:
        return Idle(HEARTBEAT_SECONDS if self._setup.gate.trouble is None else RETRY_SECONDS)

    async def _commit_waiting(self, *, renew: bool = False) -> None:
        """One transaction for all that waits; with nothing waiting, one only to `renew` the lease."""
        # Taken before they are on their way: a keeper that is cancelled meanwhile is not to store them once more.
        waiting, self.state.waiting = self.state.waiting, []
        reports = self._setup.reports.take()
        if not (waiting or reports or renew):
            return
        commits = [commit for commit, _ in waiting]
        writes = [*self._reservation(), *self._gauges(commits), *(write for c in commits for write in c.writes)]
        events = [*reports, *(event for commit in commits for event in commit.events)]
        try:
            stamped = await self.state.store.commit(self._setup.run.run_id, self._setup.owner, writes, events)
        except StoreError as error:
            self.state.waiting = [*waiting, *self.state.waiting]
            self._setup.reports.put_back(reports)
            logger.warning("%s: %d commits wait, and are tried again in %g s", error, len(waiting), RETRY_SECONDS)
            self._setup.gate.tell_trouble(str(error))
            return
        self._setup.gate.tell_trouble(None)
        self._setup.purse.count(writes)
        if any(isinstance(write, AddProgram | RecordProposal) for write in writes):
            self.state.grown = True
        for _, sender in waiting:
            if sender is not None:
                reply(sender, None)
        self._setup.heard(stamped)

    def _reservation(self) -> list[ReserveCalls]:
        calls = self._setup.purse.unreserved
        return [ReserveCalls(calls)] if calls else []

    def _gauges(self, commits: Sequence[Commit]) -> list[RecordGauges]:
        now = asyncio.get_running_loop().time()
        turning = any(isinstance(write, SetStatus) for commit in commits for write in commit.writes)
        if now < self.state.gauges_due and not turning:
            return []
        self.state.gauges_due = now + GAUGE_SECONDS
        gauges = read_gauges(self._setup.registry)
        self._setup.telemetry.gauges(gauges)
        return [RecordGauges(gauges)]

    async def _configurations(self) -> Mapping[int, Configuration]:
        if self.state.grown:
            known, programs = self.state.configurations, await self.state.store.read.programs(self._setup.run.run_id)
            # A program never changes. The same object is handed out again, with all that was computed of it.
            self.state.configurations = {
                p.number: known.get(p.number) or Configuration.from_json(p.configuration) for p in programs
            }
            self.state.grown = False
        return self.state.configurations

    async def _ledger(self) -> Ledger:
        run_id, read = self._setup.run.run_id, self.state.store.read
        return Ledger(
            await read.run(run_id),
            tuple(await read.steps(run_id)),
            await self._configurations(),
            Evidence(await read.scores(run_id)),
            await read.progress(run_id),
        )
