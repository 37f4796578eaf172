"""Publishes the best program of the run when the evidence is clear."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

from simba_actors.actors import CallReturn, CastReturn, From, GenServer, InitReturn, Reply
from simba_actors.errors import PublicationError, StoreError
from simba_actors.publishing.channel import Channel, Source
from simba_actors.publishing.channel_queries import Channels
from simba_actors.publishing.publications import OPTIMIZER, Publication
from simba_actors.search.clear_winner import ClearWinner
from simba_actors.search.evidence import Evidence
from simba_actors.search.policy import STUDENT
from simba_actors.store.records import Program
from simba_actors.team.messages import PublishBest
from simba_actors.team.setup import RunSetup

logger = logging.getLogger(__name__)


class Publisher(GenServer[int]):
    """Compares what the run has scored with what the channel serves, each time that it is asked.

    Its state is how many programs it has published in its life.

    Before the first publication that is the student itself. Where the channel serves what is no program of this run,
    nothing is known about it, and nothing is published. A publication that fails, for another publisher or the file, is
    logged, and tried the next time.
    """

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup

    async def init(self) -> InitReturn:
        self.state = 0
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case PublishBest():
                await self._publish_best()
                return Reply(None)
            case _:
                return await super().handle_call(message, sender)

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case PublishBest():
                await self._publish_best()
                return None
            case _:
                return await super().handle_cast(message)

    def format_state(self) -> str:
        return f"{self.state} programs published"

    async def _publish_best(self) -> None:
        channel = self._setup.publishes_to
        if channel is None:
            return
        try:
            await self._publish_best_to(channel)
        except (PublicationError, StoreError) as error:
            logger.warning("nothing was published to %r: %s", channel, error)

    async def _publish_best_to(self, name: str) -> None:
        run_id = self._setup.run.run_id
        async with await Channels.open(self._setup.store) as store:
            served = await store.served(name)
            scores = await store.scores(run_id)
            programs = await store.programs(run_id)
        incumbent = _incumbent(served.current, programs)
        if incumbent is None or served.canary is not None:
            return  # A canary's own test comes first.
        pool = await self._setup.pool()
        winner = await self._setup.threads.run(
            lambda: self._setup.policy.clear_winner(incumbent, _learnt_from(programs), Evidence(scores), pool)
        )
        if winner is None:
            return
        async with await Channel.open(self._setup.store, name) as channel:
            await channel.publish(
                Source(run_id, winner.program),
                expected=served.version,
                reason=_reason(winner, incumbent),
                by=OPTIMIZER,
            )
        self.state += 1


def _incumbent(current: Publication | None, programs: Sequence[Program]) -> int | None:
    """The program of this run that is served, told by its configuration; None if that is none of this run's."""
    if current is None:
        return STUDENT
    return next((program.number for program in programs if program.digest == current.digest), None)


def _reason(winner: ClearWinner, incumbent: int) -> str:
    than = "the student itself" if incumbent == STUDENT else f"program {incumbent}"
    return f"better than {than} on {winner.examples} examples by {winner.comparison}"


def _learnt_from(programs: Sequence[Program]) -> dict[int, set[int]]:
    """The train rows that each program, or a program that it comes from, was made from."""
    learnt: dict[int, set[int]] = {}
    for program in programs:
        provenance = cast("dict[str, Any]", program.provenance) if isinstance(program.provenance, dict) else {}
        inherited = (learnt.get(parent, set[int]()) for parent in program.parents)
        learnt[program.number] = set(provenance.get("examples", ())).union(*inherited)
    return learnt
