"""The supervision tree of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from simba_actors.actors import ChildSpec, Ref, Supervisor, SupervisorEvent
from simba_actors.team.analyzer import Analyzer
from simba_actors.team.coordinator import Coordinator
from simba_actors.team.pool_keeper import PoolKeeper
from simba_actors.team.proposer import Proposer
from simba_actors.team.publisher import Publisher
from simba_actors.team.sampler import Sampler
from simba_actors.team.setup import ANALYZER, COORDINATOR, POOL_KEEPER, PROPOSER, PUBLISHER, SAMPLER, RunSetup

TEAM = {
    POOL_KEEPER: PoolKeeper,
    SAMPLER: Sampler,
    ANALYZER: Analyzer,
    PROPOSER: Proposer,
    PUBLISHER: Publisher,
    COORDINATOR: Coordinator,
}
"""The actors in order of start: each needs only those before it to be up."""


async def start_team(setup: RunSetup, on_event: Callable[[SupervisorEvent], None]) -> Ref:
    """The root supervisor, once every actor is up.

    Raises:
        StartFailedError: One of them did not start; its `reason` is why.
    """
    children = [
        ChildSpec(name, partial(actor.start_link, setup, name=name, registry=setup.registry))
        for name, actor in TEAM.items()
    ]
    return await Supervisor.start(children, strategy="rest_for_one", on_event=on_event)
