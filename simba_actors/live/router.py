"""The router: keeps a student's routing table, the versions that calls run, up to date with a channel."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, cast

import dspy

from simba_actors.dspy_compat.engines import import_what_calls_need
from simba_actors.errors import MisfitError, SimbaError
from simba_actors.live.background import LiveThreads, WarnOnce
from simba_actors.live.follower import Follower, Snapshot
from simba_actors.live.remote import RemoteFollower
from simba_actors.live.wire import Remote
from simba_actors.lm.secrets import Secrets
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.copying import check_module
from simba_actors.programs.entry_points import runs_async, sync_call
from simba_actors.programs.space import check_space
from simba_actors.programs.variables import LM
from simba_actors.publishing.channel import check_channel
from simba_actors.publishing.publications import Publication, Served
from simba_actors.runtime.forks import survive_forks
from simba_actors.runtime.logs import get_logger
from simba_actors.store.opening import checked_path

logger = get_logger(__name__)


STUDENT_VERSION = 0
"""The version number of the student as it is, which runs until something is published."""


class LiveState(Enum):
    """Freshness of a live program, in the terms of feature flags: `live.state`.

    READY: it runs what the channel served at the last check. STALE: an earlier version keeps running, since the store
    can't be read now or what it serves does not fit the student. ERROR: there is no such version, and the student runs
    unchanged.
    """

    READY = "ready"
    """The program runs the version that the channel served at the last check."""

    STALE = "stale"
    """The store can't be read now, or the version that it serves does not fit the student. An earlier version keeps
    running."""

    ERROR = "error"
    """The store was never read, nothing is published to the channel, or no version fits the student. The student runs
    unchanged."""


LOCK_SECONDS = 1.0
"""Seconds that a call waits for another thread that is reading what this process has just published."""


@dataclass(frozen=True, slots=True)
class Callables:
    """The two ways of running a program. `acall` is None if the program can only be called in a thread."""

    call: Callable[..., Any]
    acall: Callable[..., Any] | None

    @classmethod
    def of(cls, program: Any) -> Callables:
        return cls(sync_call(program, program, program.acall), program.acall if runs_async(program) else None)


@dataclass(frozen=True, slots=True)
class BoundVersion:
    """A version of a channel as a program that is ready to run."""

    version: int
    """The version's number in its channel; 0 is the student as it is."""

    program: dspy.Module
    """A copy of the student with the version's configuration. Never changed, except for its LM."""

    callables: Callables
    """Functions that run the program."""

    canary: int = 0
    """The version number of the canary at that time; 0 if there was none."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Snapshot of what a channel serves. A new publication makes a new table; a table is never changed."""

    current: BoundVersion
    """Version of the calls that don't go to the canary."""

    canary: BoundVersion | None = None
    """The version that is being tried, if there is one."""

    share: float = 0.0
    """Share of all calls that go to the canary, from 0 to 1."""

    def pick(self, key: str) -> BoundVersion:
        """Return the version for `key`: always the same one while the canary is the same."""
        if self.canary is None or _fraction(self.canary.version, key) >= self.share:
            return self.current
        return self.canary


def _fraction(canary: int, key: str) -> float:
    """Return a number in [0, 1), evenly spread over keys and different for each canary."""
    drawn = hashlib.blake2b(f"{canary}/{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(drawn) / 2**64


class Router:
    """Keeps the routing table of one live program up to date.

    A table is replaced as a whole and its programs are never changed, except for their LM by `set_lm`. So a run keeps
    the version that it began with. Any trouble with the store or with a publication is logged once, and the last good
    table stays in use.

    Args:
        student: Runs as it is until something is published. Never changed.
        store: The store's file, which need not exist, or the server of a store on another host.
        channel: The channel to follow, which need not exist.
        space: What can be configured; by default the instructions and demos of each predictor.
        as_it_is: Callables that run the student as it is, for a student whose own `__call__` uses the router.
        clock: Returns monotonic seconds, which decide when to check the file.
    """

    def __init__(
        self,
        student: dspy.Module,
        store: str | Path | Remote,
        channel: str,
        *,
        space: ConfigurationSpace | None = None,
        as_it_is: Callables | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_module(student)
        check_space(space)
        check_channel(channel)
        import_what_calls_need()
        self.channel = channel
        self._student = student
        self._space = space or ConfigurationSpace.from_module(student)
        self._follower: Follower | RemoteFollower
        if isinstance(store, Remote):
            self.store: Path | str = store.url
            self._follower = RemoteFollower(store)
        else:
            self.store = checked_path(store)
            self._follower = Follower(self.store, channel, clock)
        self.threads = LiveThreads(channel)
        self._healthy = True
        self._lock = threading.Lock()
        self._locked_for_fork = False
        self._served = Served()
        self._bound: dict[str, tuple[Configuration, dspy.Module]] = {}
        self._warn_once = WarnOnce(logger)
        student_as_it_is = BoundVersion(STUDENT_VERSION, student, as_it_is or Callables.of(student))
        self.routing_table = RoutingTable(student_as_it_is)
        survive_forks(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """Return None: a copy of a live program follows no channel, so that changes to the copy have an effect."""

    def sync(self) -> None:
        """Switch to what was published since the last check. Blocks while it reads the file and binds versions.

        Waits for another thread that is reading only after a publication of this process.
        """
        if not self._follower.is_due():
            return
        local = self._follower.has_local_publication()
        if self._lock.acquire(timeout=LOCK_SECONDS if local else 0):
            try:
                if self._follower.is_stale():
                    self._refresh()
            finally:
                self._lock.release()

    async def sync_on_loop(self) -> None:
        """Do what `sync` does, without blocking the event loop."""
        if not self._follower.is_due():
            return
        if self._follower.has_local_publication():
            await self.threads.read(self.sync)
        elif self._lock.acquire(blocking=False):
            try:
                stale = self._follower.is_stale()
            finally:
                self._lock.release()
            if stale:
                await self.threads.read(self._locked_refresh)

    @property
    def state(self) -> LiveState:
        """Freshness of the routing table."""
        if self._healthy:
            return LiveState.READY
        is_student = self.routing_table.current.version == STUDENT_VERSION
        return LiveState.ERROR if is_student else LiveState.STALE

    def set_lm(self, lm: dspy.BaseLM) -> None:
        """Set the LM of all versions, except where a version's configuration chooses the LM."""
        with self._lock:
            for configuration, program in self._bound.values():
                for name, predictor in cast("list[tuple[str, Any]]", program.named_predictors()):
                    if configuration.values.get(f"{name}.{LM}") is None:
                        predictor.lm = lm

    def close(self) -> None:
        """Close the file. The next `sync` opens it again."""
        with self._lock:
            self._follower.close()

    def before_fork(self) -> None:
        """Close the file: SQLite's connections and locks must not be carried into the child."""
        self._locked_for_fork = self._lock.acquire(timeout=LOCK_SECONDS)
        if self._locked_for_fork:
            self._follower.close()

    def after_fork_in_parent(self) -> None:
        if self._locked_for_fork:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._follower.abandon()

    def _locked_refresh(self) -> None:
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        """Read what the channel serves and bind it. Never raises; after an error, the last table stays in use."""
        try:
            self._healthy = False
            self._take(self._follower.read())
        except SimbaError as error:
            self._warn_once(f"{error}; channel {self.channel!r} keeps running {self._current()}")
        except Exception as error:  # noqa: BLE001 - such as a value of a type that this library never writes
            self._warn_once(
                f"what {self.store} has for channel {self.channel!r} can't be used ({Secrets().describe(error)}): "
                f"publish again; until then {self._current()} keeps running"
            )
        finally:
            self._follower.acknowledge()

    def _take(self, snapshot: Snapshot) -> None:
        if snapshot.served.current is None:
            self._warn_once(
                f"{self.store} has no channel {self.channel!r} yet: {self._current()} runs until something is published"
            )
            return
        self._warn_once.forget()
        if snapshot.served != self._served:
            self._switch(snapshot)
        self._healthy = self.routing_table.current.version == snapshot.served.current.version

    def _switch(self, snapshot: Snapshot) -> None:
        before = self.routing_table.current.version
        self.routing_table = self._table(snapshot)
        self._served = snapshot.served
        self._forget_unused()
        if self.routing_table.current.version != before:
            logger.info("channel %r runs version %d", self.channel, self.routing_table.current.version)

    def _table(self, snapshot: Snapshot) -> RoutingTable:
        current, canary = self._bind_current(snapshot), self._bind_canary(snapshot)
        if canary is None or snapshot.served.canary is None:
            return RoutingTable(replace(current, canary=0))
        number = canary.version
        share = float(snapshot.served.canary.share or 0.0)
        return RoutingTable(replace(current, canary=number), replace(canary, canary=number), share)

    def _forget_unused(self) -> None:
        """Drop programs that are not in the routing table any more. Runs that began with them keep them."""
        versions = (self.routing_table.current, self.routing_table.canary)
        programs = [version.program for version in versions if version is not None]
        self._bound = {
            digest: (configuration, program)
            for digest, (configuration, program) in self._bound.items()
            if any(program is served for served in programs)
        }

    def _bind_current(self, snapshot: Snapshot) -> BoundVersion:
        """Return the current version, or the last good one if the current one does not fit the student."""
        publication = snapshot.served.current
        if publication is None:
            return self.routing_table.current
        try:
            return self._bind(publication, snapshot.configurations[publication.version])
        except SimbaError as error:
            good = self._last_good(publication)
            self._warn_once(f"{self._misfit(publication, error)}; {_name(good)} keeps running")
            return good

    def _bind_canary(self, snapshot: Snapshot) -> BoundVersion | None:
        publication = snapshot.served.canary
        if publication is None:
            return None
        try:
            return self._bind(publication, snapshot.configurations[publication.version])
        except SimbaError as error:
            self._warn_once(f"{self._misfit(publication, error)}; no call gets it")
            return None

    def _last_good(self, misfit: Publication) -> BoundVersion:
        """Return what ran before `misfit` in this process or, if nothing did yet, in earlier ones."""
        if self.routing_table.current.version != STUDENT_VERSION:
            return self.routing_table.current
        for publication, configuration in self._follower.earlier(misfit.version):
            with suppress(SimbaError):
                return self._bind(publication, configuration)
        return self.routing_table.current

    def _bind(self, publication: Publication, configuration: Configuration) -> BoundVersion:
        """Return the version, ready to run. Raises MisfitError or NotJSONError if it does not fit the student."""
        digest = publication.digest
        if digest not in self._bound:
            self._bound[digest] = configuration, self._applied(configuration)
        _, program = self._bound[digest]
        return BoundVersion(publication.version, program, Callables.of(program))

    def _applied(self, configuration: Configuration) -> dspy.Module:
        try:
            return self._space.narrowed_to(configuration).apply(configuration, self._student)
        except SimbaError:
            raise
        except Exception as error:  # The student's own code may raise anything when it is given a value.
            raise MisfitError(f"{type(error).__name__}: {error}") from error

    def _misfit(self, publication: Publication, error: SimbaError) -> str:
        return f"version {publication.version} of channel {self.channel!r} does not fit the student: {error}"

    def _current(self) -> str:
        return _name(self.routing_table.current)


def _name(version: BoundVersion) -> str:
    return "the student as it is" if version.version == STUDENT_VERSION else f"version {version.version}"
