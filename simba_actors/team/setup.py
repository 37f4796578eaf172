"""What the actors of one run share: values and resources that no crash of theirs can spoil."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dspy

from simba_actors.actors import Registry, Via
from simba_actors.errors import InfrastructureError, SimbaError
from simba_actors.evaluation.executor import Executor
from simba_actors.events import Event
from simba_actors.lm.budget_tracker import Purse
from simba_actors.lm.governor import Governor
from simba_actors.lm.prompt_model import LocalPromptModel
from simba_actors.observe.telemetry import Telemetry
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.runtime.threads import Threads
from simba_actors.search.objectives import Objectives
from simba_actors.search.policy import Policy
from simba_actors.search.stopping import StopWhen
from simba_actors.store import Owner
from simba_actors.store.records import NewRun, Write
from simba_actors.strategies import Strategy
from simba_actors.team.messages import Commit, ReadPool, Unreachable
from simba_actors.team.pool_view import PoolView
from simba_actors.team.reports import Reports

POOL_KEEPER = "pool_keeper"
SAMPLER = "sampler"
ANALYZER = "analyzer"
PROPOSER = "proposer"
PUBLISHER = "publisher"
COORDINATOR = "coordinator"


class Gate:
    """Open while the run may start new LM work: while it is neither paused nor failed, and its results can be stored.

    `announced` says whether this process has told that the run is up, `paused_for` why it is paused, `trouble` why
    nothing can be stored for now, `failure` what the run fails of. `openings` is how often a pause has ended.
    """

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.announced = False
        self.openings = 0
        self.paused_for: str | None = None
        self.trouble: str | None = None
        self.failure: SimbaError | None = None

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def open(self) -> None:
        self.paused_for = None
        self.openings += 1
        self._turn()

    def close(self, reason: str) -> None:
        self.paused_for = self.paused_for or reason
        self._turn()

    def tell_trouble(self, trouble: str | None) -> None:
        """Keeps the gate closed while there is some."""
        self.trouble = trouble
        self._turn()

    def fail(self, error: SimbaError) -> None:
        """Closes the gate for good. Of several errors, the first is the run's."""
        self.failure = self.failure or error
        self._turn()

    def _turn(self) -> None:
        if any(why is not None for why in (self.paused_for, self.trouble, self.failure)):
            self._open.clear()
        else:
            self._open.set()

    async def passed(self) -> None:
        """Returns as soon as the gate is open."""
        await self._open.wait()


@dataclass(frozen=True, slots=True)
class RunSetup:
    """The fixed parts of a run.

    `prompt_model` gives one for each application of a strategy, so that its usage can be told apart. `finished` is
    called once, with None when the run has its result or with the error that ended it. `heard` is called with events
    that are stored. `publishes_to` is the channel to which the best program is published, None if none is.
    `rollouts_expected` is how many the whole run takes, as far as that is known beforehand, in `max_steps` or fewer.
    `stop_when` is asked after each step whether the search is to end. `objectives` are those of a metric that gives
    several scores.
    """

    run: NewRun
    owner: Owner
    store: Path
    policy: Policy
    executor: Executor
    space: ConfigurationSpace
    student: dspy.Module
    student_configuration: Configuration
    trainset: Sequence[dspy.Example]
    strategies: Mapping[str, Strategy]
    prompt_model: Callable[[], LocalPromptModel]
    max_concurrency: int
    publishes_to: str | None
    rollouts_expected: int
    max_steps: int
    stop_when: StopWhen | None
    objectives: Objectives | None
    governor: Governor
    purse: Purse
    registry: Registry
    gate: Gate
    threads: Threads
    reports: Reports
    telemetry: Telemetry
    finished: Callable[[SimbaError | None], None]
    heard: Callable[[Sequence[Event]], None]

    def via(self, name: str) -> Via:
        """The actor of that name, whichever of its lives it is in."""
        return self.registry.via(name)

    async def commit(self, writes: Sequence[Write], events: Sequence[Event] = ()) -> None:
        """Has the PoolKeeper store these in one transaction. Returns when they are safe."""
        await self.via(POOL_KEEPER).call(Commit(tuple(writes), tuple(events)), timeout=None)

    async def cast_commit(self, writes: Sequence[Write], events: Sequence[Event] = ()) -> None:
        """The same, without waiting for it: they are safe before anything is that is asked for later."""
        await self.via(POOL_KEEPER).cast(Commit(tuple(writes), tuple(events)))

    def tell_outage(self, error: InfrastructureError, opening: int) -> None:
        """Has the run paused for what work met that began at that opening of the gate.

        If the gate was opened since, that is old news: an LM call may fail long after it was sent.
        """
        if opening == self.gate.openings:
            self.gate.close(str(error))
            self.via(COORDINATOR).cast_nowait(Unreachable(str(error), opening))

    async def pool(self) -> PoolView:
        """The pool as it is now."""
        return PoolView(
            await self.via(POOL_KEEPER).call(ReadPool(), timeout=None), self.student_configuration, self.space
        )
