"""The one writer of the store."""

from __future__ import annotations

import logging
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
from simba_actors.algorithm.evidence import Evidence
from simba_actors.errors import StoreError
from simba_actors.events import Event
from simba_actors.programs import Configuration
from simba_actors.store import Store
from simba_actors.team.messages import (
    Commit,
    Ledger,
    ReadConfiguration,
    ReadLedger,
    ReadPool,
    ReadProposals,
    ReadRollouts,
    Tell,
)
from simba_actors.team.setup import RunSetup

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How soon a commit that the file refused (locked, full) is tried again."""

HEARTBEAT_SECONDS = 10.0
"""How often an idle PoolKeeper renews its lease: a third of the lease."""


@dataclass(slots=True)
class PoolState:
    """The open store, a cache of its configurations, and what waits for the next transaction: commits and events."""

    store: Store
    configurations: dict[int, Configuration] = field(default_factory=dict[int, Configuration])
    waiting: list[tuple[Commit, From[None]]] = field(default_factory=list[tuple[Commit, From[None]]])
    told: list[Event] = field(default_factory=list[Event])


class PoolKeeper(GenServer[PoolState]):
    """Owns the store's connection. Commits that arrive together share one transaction.

    A commit is answered when it is safe. Where the file can't be written for now, it waits and is tried again, and so
    does whoever asked for it: nothing goes on that is not stored.
    """

    trap_exit = True

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup

    async def init(self) -> InitReturn:
        store = await Store.open(self._setup.store)
        self.ref.target.on_exit.append(store.abandon)  # Killed, it gets no chance to close it.
        try:
            await store.claim(self._setup.run, self._setup.owner)
        except BaseException:
            await store.close()
            raise
        self.state = PoolState(store)
        return Idle(HEARTBEAT_SECONDS)

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
                return self._then(Reply(await self._configuration(program)))
            case ReadPool():
                await self._commit_waiting()
                return self._then(Reply(await self._configurations()))
            case ReadRollouts(step=step, phase=phase, program=program):
                await self._commit_waiting()
                return self._then(Reply(tuple(await read.rollouts(run_id, step, phase, program))))
            case ReadProposals(step=step):
                await self._commit_waiting()
                return self._then(Reply(tuple(await read.proposals(run_id, step))))
            case ReadLedger():
                await self._commit_waiting()
                return self._then(Reply(await self._ledger()))
            case _:
                return await super().handle_call(message, sender)

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case Tell(events=events):
                self.state.told.extend(events)
                return Idle(0)
            case _:
                return await super().handle_cast(message)

    async def handle_info(self, message: Any) -> CastReturn:
        if message is not IDLE:
            return await super().handle_info(message)
        await self._commit_waiting(renew=True)
        return Idle(RETRY_SECONDS if self.state.waiting else HEARTBEAT_SECONDS)

    def _then(self, answer: Reply[Any]) -> Reply[Any]:
        return Reply(answer.value, Idle(RETRY_SECONDS if self.state.waiting else HEARTBEAT_SECONDS))

    async def _commit_waiting(self, *, renew: bool = False) -> None:
        """One transaction for all that waits; with nothing waiting, one only to `renew` the lease."""
        waiting, told = self.state.waiting, self.state.told
        if not (waiting or told or renew):
            return
        writes = [write for commit, _ in waiting for write in commit.writes]
        events = [*told, *(event for commit, _ in waiting for event in commit.events)]
        try:
            stamped = await self.state.store.commit(self._setup.run.run_id, self._setup.owner, writes, events)
        except StoreError as error:
            logger.warning("%s: %d commits wait, and are tried again in %g s", error, len(waiting), RETRY_SECONDS)
            return
        self.state.waiting, self.state.told = [], []
        for _, sender in waiting:
            reply(sender, None)
        self._setup.heard(stamped)

    async def _configuration(self, program: int) -> Configuration:
        if program not in self.state.configurations:
            self.state.configurations = await self._configurations()
        return self.state.configurations[program]

    async def _configurations(self) -> dict[int, Configuration]:
        programs = await self.state.store.read.programs(self._setup.run.run_id)
        return {program.number: Configuration.from_json(program.configuration) for program in programs}

    async def _ledger(self) -> Ledger:
        run_id, read = self._setup.run.run_id, self.state.store.read
        return Ledger(
            await read.run(run_id),
            tuple(await read.steps(run_id)),
            await self._configurations(),
            Evidence(await read.scores(run_id)),
        )
