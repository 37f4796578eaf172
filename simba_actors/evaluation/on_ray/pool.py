"""The pool of workers: which worker runs what, and what happens when one dies."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping
from contextvars import copy_context
from typing import Any

from simba_actors.errors import ConfigError, MetricError, RunError, SimbaError
from simba_actors.evaluation.executor import RolloutTask
from simba_actors.evaluation.on_ray.cluster import Connection, RemoteWorker, WorkerLostError, shared
from simba_actors.evaluation.on_ray.messages import (
    Ended,
    FromWorker,
    Hello,
    Raised,
    SentError,
    restored,
)
from simba_actors.evaluation.on_ray.pool_worker import DEATHS, Flight, PoolWorker, Work
from simba_actors.evaluation.on_ray.travel import Parts, check_travels, packed
from simba_actors.evaluation.on_ray.worker import Setup, versions
from simba_actors.lm.governor import Caller, Governor
from simba_actors.programs.values import json_fields
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads
from simba_actors.search.rollout import Outcome, Trajectory

logger = get_logger(__name__)

ROOM_SECONDS = 30.0
"""Seconds that workers may take to start before a warning says that the cluster has no room for them."""

START_ATTEMPTS = 3
"""Deaths of the first worker while it starts, after which the run does not start."""

LONGEST_PAUSE = 30.0
"""Maximum seconds between two attempts to start a worker."""

PACE, PACE_OF_EACH = 0.04, 0.004
"""Minimum seconds between two batches of messages in each direction: the larger of `PACE` and `PACE_OF_EACH` times the
number of workers that are up. A batch costs this process 0.5 ms of CPU and the worker more, whatever is in it. A
message after a pause is sent at once."""


class WorkerPool:
    """An executor whose rollouts run in workers on Ray. It starts with the first rollout.

    Each of `workers` tasks keeps one worker up: it starts one, talks to it until it is lost, and starts another.
    Rollouts go to the worker that has the fewest.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        workers: int,
        address: str | None,
        setup: Setup,
        options: Mapping[str, Any],
        governor: Governor,
        caller: Caller,
        threads: Threads,
    ) -> None:
        self._parts = parts
        self._workers = workers
        self._setup = setup
        self._options = options
        self._governor, self._caller, self._threads = governor, caller, threads
        self._connection = Connection(address, threads)
        self._context = copy_context()
        self._numbers = itertools.count()
        self._packed_early: bytes | None = None
        self._blob: Any = None
        """A reference to the packed parts, in Ray's object store."""
        self._packing = asyncio.Lock()
        self._keepers: list[asyncio.Task[None]] = []
        self._up: list[PoolWorker] = []
        self._waiting: deque[Flight] = deque()
        self._first: asyncio.Future[None] | None = None
        self._warned: set[str] = set()

    async def run(self, task: RolloutTask) -> Trajectory:
        """Run one rollout on a worker and return its trajectory.

        Raises:
            InfrastructureError, MetricError: As `LocalExecutor.run` does.
        """
        await self._started(self._workers)
        return await self._fly(task)

    async def try_metric(self) -> None:
        """Start a worker and try the metric there, before any money is spent.

        Raises:
            MetricError: The metric can't return a number, whatever the prediction.
            ConfigError: Something of the config can't travel to workers, or `setup` failed.
            RunError: Workers die while they start.
        """
        if self._setup is None:
            # What can't travel is refused before a cluster is waited for.
            self._packed_early = await self._packed(())
        else:
            check_travels("setup", self._setup)
        await self._started(1)
        await self._fly(None)

    async def close(self) -> None:
        """End the workers and disconnect from the cluster, if this pool has connected to it."""
        keepers, self._keepers = self._keepers, []
        for keeper in keepers:
            keeper.cancel()
        if keepers:
            await asyncio.wait(keepers)
        self._first = self._blob = None
        await self._connection.close()

    # ── rollouts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _fly(self, work: Work) -> Any:
        flight = Flight(next(self._numbers), work, asyncio.get_running_loop().create_future())
        self._waiting.append(flight)
        self._assign()
        try:
            return await flight.ended
        except asyncio.CancelledError:
            if flight in self._waiting:
                self._waiting.remove(flight)
            if flight.worker is not None:
                flight.worker.cancel(flight)
                self._assign()
            raise

    def _assign(self) -> None:
        """Give the waiting rollouts to workers. Those that run alone wait for a worker that does nothing else."""
        held_back: list[Flight] = []
        reserved = 0
        while self._waiting and self._up:
            flight = self._waiting.popleft()
            free = [worker for worker in self._up if not worker.has_lone_flight]
            free.sort(key=lambda worker: len(worker.flights))
            if flight.runs_alone:
                if free and not free[0].flights:
                    free[0].start(flight)
                else:
                    held_back.append(flight)
                    reserved = 1
            # While one waits to run alone, the least busy worker gets nothing new, so that it becomes idle.
            elif len(free) > reserved:
                free[reserved].start(flight)
            else:
                held_back.append(flight)
        self._waiting.extendleft(reversed(held_back))

    def _lost(self, worker: PoolWorker, lost: WorkerLostError) -> None:
        """Let the rollouts of a lost worker run again elsewhere. One that ran alone there may be to blame."""
        flights = list(worker.flights.values())
        reason = str(lost)
        for flight in flights:
            flight.worker = None
            if flight.ended.done():
                continue
            if lost.with_node:
                self._waiting.append(flight)
                continue
            flight.deaths += 1
            if flight.deaths < DEATHS or len(flights) > 1:
                self._waiting.append(flight)
            elif flight.work is None:
                flight.ended.set_exception(MetricError(f"a worker died each time the metric was tried: {reason}"))
            else:
                flight.ended.set_result(self._failure(flight.work, flight.deaths, reason))
        logger.warning(
            "a Ray worker was lost (%s): its %d rollouts run again on others, and another worker takes its place",
            reason,
            len(flights),
        )

    def _failure(self, task: RolloutTask, deaths: int, reason: str) -> Trajectory:
        example: Any = self._parts.examples[task.split][task.example]
        return Trajectory(
            outcome=Outcome.PROGRAM_FAILURE,
            score=0.0,
            prediction=None,
            trace=(),
            error=f"WorkerDied: the rollout's worker process died {deaths} times, at last with nothing else running "
            f"there: {self._governor.secrets.hide(reason)}",
            expected=json_fields(example.labels()),
        )

    def _take(self, worker: PoolWorker, messages: list[FromWorker]) -> None:
        """Do what a worker's messages call for."""
        ended = False
        for message in messages:
            match message:
                case Ended(number=number) | Raised(number=number):
                    ended = True
                    flight = worker.flights.pop(number, None)
                    if flight is None or flight.ended.done():
                        continue
                    if isinstance(message, Raised):
                        flight.ended.set_exception(restored(message.error))
                    else:
                        flight.ended.set_result(message.trajectory)
                case _:
                    worker.office.take(message)
        if ended and self._waiting:
            self._assign()

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _started(self, workers: int) -> None:
        """Start the tasks that keep `workers` workers up, and return when the first is up."""
        loop = asyncio.get_running_loop()
        if self._first is None:
            self._first = loop.create_future()
            self._first.add_done_callback(_retrieve)
        while len(self._keepers) < workers:
            self._keepers.append(loop.create_task(self._keep_up(), context=self._context.copy()))
        if not self._first.done() or self._first.exception() is not None:
            await asyncio.shield(self._first)

    async def _keep_up(self) -> None:
        """Start a worker, talk to it until it is lost, and start another."""
        failures = 0
        while True:
            try:
                worker = await self._start_worker()
            except Exception as error:  # noqa: BLE001 - whatever it is, rollouts must not wait in vain for this task
                failures += 1
                self._could_not_start(error, failures)
                await asyncio.sleep(min(LONGEST_PAUSE, 2.0 ** (failures - 1)))
            else:
                failures = 0
                await self._use(worker)

    async def _start_worker(self) -> PoolWorker:
        """Return a worker that is ready for rollouts, as soon as the cluster has room for it."""
        await self._connection.open()
        remote = self._connection.start_worker(self._options)
        try:
            hello = checked(await self._when_there_is_room(remote))
            check_usable(await remote.begin(await self._shared_parts(hello.made)))
        except BaseException:
            remote.kill()
            raise
        return PoolWorker(remote, self._governor, self._caller)

    async def _when_there_is_room(self, remote: RemoteWorker) -> Hello | SentError:
        preparing = asyncio.ensure_future(remote.prepare(self._setup))
        try:
            done, _ = await asyncio.wait([preparing], timeout=ROOM_SECONDS)
            if not done:
                self._warn_once(
                    "room",
                    f"{len(self._up)} of {self._workers} Ray workers are up, and the others wait for room in the "
                    f"cluster: each takes {dict(self._options) or '1 CPU'}; free are {await self._connection.free()}",
                )
            return await preparing
        finally:
            preparing.cancel()

    async def _shared_parts(self, made: tuple[str, ...]) -> Any:
        """Return a reference to the parts of the run, without those that `setup` makes."""
        async with self._packing:
            if self._blob is None:
                blob, self._packed_early = self._packed_early, None
                self._blob = shared(blob or await self._packed(made))
        return self._blob

    async def _packed(self, made: tuple[str, ...]) -> bytes:
        return await self._threads.run(lambda: packed(self._parts.without(made)))

    async def _use(self, worker: PoolWorker) -> None:
        """Let a worker run rollouts until it is lost."""
        self._up.append(worker)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._assign()
        try:
            lost = await worker.converse(lambda messages: self._take(worker, messages), self._pace)
        finally:
            self._up.remove(worker)
            worker.close()
        self._lost(worker, lost)
        self._assign()

    def _pace(self) -> float:
        return max(PACE, PACE_OF_EACH * len(self._up))

    def _could_not_start(self, error: Exception, failures: int) -> None:
        first = self._first
        if first is None or first.done():
            self._warn_once(str(error), f"a Ray worker can't start, and is tried again: {error}")
        elif isinstance(error, SimbaError):
            first.set_exception(error)
        elif failures >= START_ATTEMPTS:
            first.set_exception(
                RunError(
                    f"Ray's workers died {failures} times in a row while they started: {error}. Look at their logs on "
                    "the cluster: it may lack this package or memory"
                )
            )

    def _warn_once(self, about: str, warning: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            logger.warning("%s", warning)


def _retrieve(first: asyncio.Future[None]) -> None:
    """Keep asyncio from warning about an error that is never retrieved."""
    if not first.cancelled():
        first.exception()


def checked(hello: Hello | SentError) -> Hello:
    """Return what a new worker is. Raise ConfigError if `setup` failed there, or if it has other code."""
    if isinstance(hello, SentError):
        raise ConfigError(f"RayExecutor(setup=…) failed in a worker: {hello.message}") from restored(hello)
    other = [
        f"{name} {hello.versions.get(name)} there and {version} here"
        for name, version in versions().items()
        if hello.versions.get(name) != version
    ]
    if other:
        raise ConfigError(f"a Ray worker on {hello.node} has other versions: {', '.join(other)}. Install the same ones")
    return hello


def check_usable(error: SentError | None) -> None:
    """Raise the error that keeps a worker from using the parts of the run, if there is one."""
    if error is None:
        return
    cause = restored(error)
    if isinstance(cause, SimbaError):
        raise cause
    raise ConfigError(
        f"a Ray worker can't use the student, the metric or the LMs: {error.message}. Its node needs the code that "
        "they are made of: install it there, or pass RayExecutor(options={'runtime_env': {'working_dir': '.'}})"
    ) from cause
