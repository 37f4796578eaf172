"""The Publisher: publishes the run's best program once the evidence is clear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from simba_actors.actors import CallReturn, CastReturn, From, GenServer, InitReturn, Reply
from simba_actors.errors import PublicationError, StoreError
from simba_actors.publishing.channel import Channel, Source
from simba_actors.publishing.publications import OPTIMIZER, Publication
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads
from simba_actors.search.clear_winner import ClearWinner
from simba_actors.search.policy import Policy
from simba_actors.search.rollout import STUDENT
from simba_actors.store.records import Program
from simba_actors.team.messages import POOL_KEEPER, PublishBest, ReadPrograms, Teammates

logger = get_logger(__name__)


class Publisher(GenServer[int]):
    """Publishes the best program, each time it is asked to, if it is clearly better than what the channel serves.

    Before the first publication, the channel serves the student itself. If it serves a program that is not from this
    run, nothing is known about that program, and nothing is published. A publication that fails is logged and tried
    again the next time. `channel` is None if the run publishes nothing on its own.

    The state is the number of programs published since the actor started.
    """

    def __init__(
        self, teammates: Teammates, *, store: Path, run_id: str, channel: str | None, policy: Policy, threads: Threads
    ) -> None:
        self._teammates = teammates
        self._store, self._run_id, self._channel = store, run_id, channel
        self._policy = policy
        self._threads = threads

    async def init(self) -> InitReturn:
        self.state = 0
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case PublishBest():
                await self._publish_best(message)
                return Reply(None)
            case _:
                return await super().handle_call(message, sender)

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case PublishBest():
                await self._publish_best(message)
                return None
            case _:
                return await super().handle_cast(message)

    def format_state(self) -> str:
        return f"{self.state} programs published"

    async def _publish_best(self, known: PublishBest) -> None:
        if self._channel is None:
            return
        try:
            async with await Channel.open(self._store, self._channel) as channel:
                await self._publish_best_to(channel, known)
        except (PublicationError, StoreError) as error:
            logger.warning("nothing was published to %r: %s", self._channel, error)

    async def _publish_best_to(self, channel: Channel, known: PublishBest) -> None:
        served = await channel.served()
        if served.canary is not None:
            return  # The canary's own test comes first.
        programs = await self._teammates.via(POOL_KEEPER).call(ReadPrograms(), timeout=None)
        incumbent = _incumbent(served.current, programs)
        if incumbent is None:
            return
        winner = await self._threads.run(
            lambda: self._policy.clear_winner(incumbent, _learned_from(programs), known.evidence, known.pool)
        )
        if winner is None:
            return
        await channel.publish(
            Source(self._run_id, winner.program),
            expected=served.version,
            reason=_reason(winner, incumbent),
            by=OPTIMIZER,
        )
        self.state += 1


def _incumbent(current: Publication | None, programs: Sequence[Program]) -> int | None:
    """Return the served program, recognized by its configuration; None if it is not from this run."""
    if current is None:
        return STUDENT
    return next((program.number for program in programs if program.digest == current.digest), None)


def _reason(winner: ClearWinner, incumbent: int) -> str:
    than = "the student itself" if incumbent == STUDENT else f"program {incumbent}"
    return f"better than {than} on {winner.examples} examples by {winner.comparison}"


def _learned_from(programs: Sequence[Program]) -> dict[int, set[int]]:
    """Return the training examples from which each program, or an ancestor of it, was made."""
    learned: dict[int, set[int]] = {}
    for program in programs:
        provenance = cast("dict[str, Any]", program.provenance) if isinstance(program.provenance, dict) else {}
        inherited = (learned.get(parent, set[int]()) for parent in program.parents)
        learned[program.number] = set(provenance.get("examples", ())).union(*inherited)
    return learned
