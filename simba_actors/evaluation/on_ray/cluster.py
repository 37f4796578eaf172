"""The border to Ray: connections, actors, and what their errors mean. Nothing else imports `ray`."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Mapping
from typing import Any, cast

from simba_actors.errors import ConfigError
from simba_actors.evaluation.on_ray.messages import FromWorker, Hello, SentError, ToWorker
from simba_actors.evaluation.on_ray.worker import Setup, Worker
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads

logger = get_logger(__name__)

SILENT_AFTER = 60.0
"""Seconds without an answer after which a worker counts as lost. A worker says something every 5 seconds."""

LONGEST_PAUSE = 10.0
"""Maximum seconds between two attempts to reach a cluster."""

PROBE_TIMEOUT = 5.0
"""Seconds in which a connection to the cluster's address must succeed."""

NODE_IS_GONE = re.compile(r"node (has died|was (terminated|preempted))")
"""Phrases of Ray's errors about actors whose node is gone."""

GUESSES = re.compile(r" (There are some potential root causes|Some common causes)")
"""Where Ray's errors begin to guess."""


class WorkerLostError(Exception):
    """The worker's process or node is gone, or is silent."""

    def __init__(self, reason: str, *, with_node: bool = False) -> None:
        super().__init__(reason)
        self.with_node = with_node
        """Whether its whole node is gone, which no rollout is to blame for."""


class Connection:
    """A connection of this process to Ray, for one executor. All executors of a process share Ray's own.

    Args:
        address: The cluster's, as `ray.init` takes it; None for the one that `RAY_ADDRESS` names, or else one on this
            machine, which is started.
        threads: Runs Ray's blocking calls.
    """

    _users = 0
    _lock = threading.Lock()

    def __init__(self, address: str | None, threads: Threads) -> None:
        self._address = address
        self._threads = threads
        self._opening = asyncio.Lock()
        self._is_open = self._uses_ours = False

    async def open(self) -> None:
        """Connect, unless this process is connected. Wait for a cluster that is not there yet, with one warning.

        Raises:
            ConfigError: Ray is not installed, or refuses its arguments.
        """
        async with self._opening:
            if not self._is_open or not imported_ray().is_initialized():
                await self._wait_for_cluster()
                self._is_open = True

    async def _wait_for_cluster(self) -> None:
        pause, warned = 1.0, False
        while True:
            try:
                await self._probe_address()
                await self._threads.run(self._connect)
            except OSError as error:
                if not warned:
                    warned = True
                    logger.warning(
                        "no Ray cluster answers at %s (%s): rollouts wait for it, and an attempt is made every %g s. "
                        "Start it, or correct RayExecutor(address=…)",
                        self._where(),
                        str(error).partition("\n")[0] or type(error).__name__,
                        LONGEST_PAUSE,
                    )
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
            else:
                if warned:
                    logger.info("the Ray cluster at %s answers", self._where())
                return

    async def close(self) -> None:
        """Disconnect if this was the last executor of a connection that an executor has made."""
        self._is_open = False
        if self._uses_ours:
            self._uses_ours = False
            await self._threads.run(self._disconnect)

    def start_worker(self, options: Mapping[str, Any]) -> RemoteWorker:
        """Ask for a worker. It is up when `prepare` returns. Raise ConfigError if Ray refuses the options."""
        ray = imported_ray()
        try:
            made = ray.remote(Worker).options(**{"num_cpus": 1, **options, "max_restarts": 0, "max_concurrency": 8})
        except (TypeError, ValueError) as error:
            raise ConfigError(f"RayExecutor(options=…): Ray refuses them: {error}") from error
        return RemoteWorker(made.remote())

    async def free(self) -> str:
        """Return what the cluster has free, for warnings."""
        try:
            free = cast("Mapping[str, float]", await self._threads.run(imported_ray().available_resources))
        except Exception as error:  # noqa: BLE001 - only words are at stake
            return f"unknown: {error}"
        shown = {name: amount for name, amount in sorted(free.items()) if ":" not in name and "memory" not in name}
        return ", ".join(f"{name} {amount:g}" for name, amount in shown.items()) or "none"

    def _where(self) -> str:
        return self._address or os.environ.get("RAY_ADDRESS") or "this machine"

    async def _probe_address(self) -> None:
        """Raise OSError if nothing listens at the cluster's address: Ray itself would try for minutes."""
        address = (self._address or os.environ.get("RAY_ADDRESS") or "").removeprefix("ray://")
        host, _, port = address.rpartition(":")
        if host and port.isdigit() and not imported_ray().is_initialized():
            async with asyncio.timeout(PROBE_TIMEOUT):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                await writer.wait_closed()

    def _connect(self) -> None:
        ray = imported_ray()
        with Connection._lock:
            if ray.is_initialized() and Connection._users == 0:
                return  # The application has connected, and disconnects.
            if not ray.is_initialized():
                quiet = {} if self._where().startswith("ray://") else {"include_dashboard": False}
                try:
                    ray.init(address=self._address, configure_logging=False, **quiet)
                except (ValueError, RuntimeError) as error:
                    raise ConfigError(f"Ray can't be started or reached at {self._where()}: {error}") from error
            Connection._users += not self._uses_ours
            self._uses_ours = True

    def _disconnect(self) -> None:
        with Connection._lock:
            Connection._users -= 1
            if Connection._users == 0:
                imported_ray().shutdown()


class RemoteWorker:
    """A `Worker` in another process."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def prepare(self, setup: Setup) -> Hello | SentError:
        """Wait until the worker is up. May take as long as the cluster needs to make room."""
        return await self._call("prepare", setup, seconds=None)

    async def begin(self, blob: Any) -> SentError | None:
        """Give the worker the parts of the run, as returned by `shared`."""
        return await self._call("begin", blob, seconds=None)

    async def exchange(self, messages: list[ToWorker]) -> list[FromWorker]:
        """Send messages, and return those that wait in the worker."""
        return await self._call("exchange", messages)

    async def collect(self, pace: float) -> list[FromWorker]:
        """Return the worker's next messages, at the earliest `pace` seconds after the last ones; none if it has none
        for some seconds."""
        return await self._call("collect", pace)

    def kill(self) -> None:
        """End the worker's process."""
        ray = imported_ray()
        if ray.is_initialized():
            ray.kill(self._actor)

    async def _call(self, method: str, argument: Any, *, seconds: float | None = SILENT_AFTER) -> Any:
        ray = imported_ray()
        try:
            async with asyncio.timeout(seconds):
                return await getattr(self._actor, method).remote(argument)
        except TimeoutError:
            raise WorkerLostError(f"it has not answered for {seconds:g} s") from None
        except ray.exceptions.RayError as error:
            text = str(error)
            raise WorkerLostError(_reason(text), with_node=NODE_IS_GONE.search(text) is not None) from error


def _reason(text: str) -> str:
    """Return what Ray's error says, without the names and numbers of its actor."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    return GUESSES.split(lines[-1])[0] if lines else "Ray does not say why"


def shared(blob: bytes) -> Any:
    """Return a reference to bytes that each node of the cluster fetches once."""
    return imported_ray().put(blob)


def imported_ray() -> Any:
    """Return the module `ray`.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("RayExecutor needs Ray: pip install 'simba_actors[ray]'") from error
    return cast("Any", ray)
