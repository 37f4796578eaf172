"""A worker as the optimizer's process sees it: the rollouts that it has, and the messages on their way to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from simba_actors.evaluation.executor import RolloutTask
from simba_actors.evaluation.on_ray.cluster import RemoteWorker, WorkerLostError
from simba_actors.evaluation.on_ray.leases import LeaseOffice
from simba_actors.evaluation.on_ray.messages import Cancel, FromWorker, Run, ToWorker, TryMetric, remember
from simba_actors.lm.governor import Caller, Governor
from simba_actors.runtime.logs import get_logger
from simba_actors.search.rollout import Trajectory

logger = get_logger(__name__)

DEATHS = 2
"""Deaths of its worker that a rollout is not held responsible for, unless it ran alone at the last of them."""

Work: TypeAlias = RolloutTask | None
"""A rollout, or None for trying the metric."""


@dataclass(eq=False, slots=True)
class Flight:
    """A rollout that was asked for and has not ended."""

    number: int
    work: Work
    ended: asyncio.Future[Trajectory | None]
    deaths: int = 0
    """Workers that died while it ran there."""
    worker: PoolWorker | None = None

    @property
    def runs_alone(self) -> bool:
        """Whether nothing may run beside it, to find out whether it is what ends workers."""
        return self.deaths >= DEATHS


class PoolWorker:
    """A worker that is up: its rollouts, its leases, and the messages on their way to it."""

    def __init__(self, remote: RemoteWorker, governor: Governor, caller: Caller) -> None:
        self._remote = remote
        self.office = LeaseOffice(governor, caller, self._send)
        self.flights: dict[int, Flight] = {}
        self._configurations: dict[str, None] = {}
        self._mail: list[ToWorker] = []
        self._has_mail = asyncio.Event()

    @property
    def has_lone_flight(self) -> bool:
        """Whether it runs a rollout that nothing may run beside."""
        return len(self.flights) == 1 and next(iter(self.flights.values())).runs_alone

    def start(self, flight: Flight) -> None:
        """Have a rollout run here."""
        self.flights[flight.number] = flight
        flight.worker = self
        if flight.work is None:
            self._send(TryMetric(flight.number))
            return
        task, digest = flight.work, flight.work.configuration.digest
        known = digest in self._configurations
        if not known:
            remember(self._configurations, digest, None)
        configuration = None if known else task.configuration
        self._send(Run(flight.number, digest, configuration, task.example, task.split, task.model))

    def cancel(self, flight: Flight) -> None:
        """Have a rollout end whose result is not wanted any more."""
        if self.flights.pop(flight.number, None) is not None:
            self._send(Cancel(flight.number))

    async def converse(self, take: Callable[[list[FromWorker]], None], pace: Callable[[], float]) -> WorkerLostError:
        """Exchange messages with the worker until it is lost, and return why.

        Args:
            take: Called with each batch of messages from the worker.
            pace: Returns the least seconds between two batches in each direction.
        """
        tasks = [asyncio.create_task(self._collect(take, pace)), asyncio.create_task(self._deliver(take, pace))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        except WorkerLostError as error:
            return error
        except Exception as error:
            logger.exception("messages of a Ray worker could not be handled")
            return WorkerLostError(f"{type(error).__name__}: {error}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise AssertionError("the exchange with a worker ended without an error")

    def close(self) -> None:
        """End the worker's process. Its leases count as used."""
        self.office.close()
        self._remote.kill()

    def _send(self, message: ToWorker) -> None:
        self._mail.append(message)
        self._has_mail.set()

    async def _collect(self, take: Callable[[list[FromWorker]], None], pace: Callable[[], float]) -> None:
        while True:
            take(await self._remote.collect(pace()))

    async def _deliver(self, take: Callable[[list[FromWorker]], None], pace: Callable[[], float]) -> None:
        while True:
            await self._has_mail.wait()
            self._has_mail.clear()
            messages, self._mail = self._mail, []
            take(await self._remote.exchange(messages))
            await asyncio.sleep(pace())
