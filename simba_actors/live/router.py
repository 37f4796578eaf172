"""The router: keeps a student's routing table up to date with a channel, and runs the version that it picks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast

import dspy
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

from simba_actors.dspy_compat.streaming import is_streamed, streamed_as
from simba_actors.errors import ConfigError, MisfitError, SimbaError
from simba_actors.live.follower import Follower, Snapshot
from simba_actors.live.recording import CallRecorder, LiveRun, RecordingOptions, WarnOnce, Writer, writer_of
from simba_actors.live.remote import Remote, RemoteFollower, remote_writer_of
from simba_actors.live.routing import STUDENT_VERSION, BoundVersion, Callables, RoutingTable, call_id, pick
from simba_actors.lm.secrets import Secrets
from simba_actors.logs import get_logger
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.copying import check_module
from simba_actors.programs.space import check_space
from simba_actors.programs.variables import LM
from simba_actors.publishing.channel import check_channel
from simba_actors.publishing.publications import Publication, Served
from simba_actors.runtime.forks import survive_forks
from simba_actors.runtime.threads import Threads
from simba_actors.store.opening import checked_path

logger = get_logger(__name__)

R = TypeVar("R")


class LiveState(Enum):
    """Freshness of a live program, in the terms of feature flags."""

    READY = "ready"
    """The program runs the version that the channel served at the last check."""

    STALE = "stale"
    """The store can't be read now. The version that was read last keeps running."""

    ERROR = "error"
    """The store was never read, or nothing is published to the channel. The student runs unchanged."""


LOCK_SECONDS = 1.0
"""Seconds that a call waits for another thread that is reading what this process has just published."""

_threads = Threads()
"""Shared by all live programs of the process, so that one for each request leaves no thread behind."""

THREADS = 40
"""Calls of sync students that run at the same time on one event loop, as many as anyio's worker threads. More are
allowed if DSPy's setting `async_max_workers` is higher; the others wait for their turn."""

_limiter: RunVar[CapacityLimiter] = RunVar("limiter of the threads of live programs")


class Router:
    """Keeps the routing table of one live program up to date, and runs the versions in it.

    A table is replaced as a whole and its programs are never changed, except for their LM by `set_lm`. So a run keeps
    the version that it began with. Whatever goes wrong with the store, or with what was published, is logged once, and
    the last good table serves.

    Args:
        student: Runs as it is until something is published. Never changed.
        store: The store's file, which need not exist, or the server of a store on another host.
        channel: The channel to follow, which need not exist.
        options: What to record of the calls.
        space: What can be configured; by default the instructions and demos of each predictor.
        as_it_is: How to run the student as it is, for a student whose own `__call__` asks the router.
        clock: Monotonic seconds, for how often to look at the file.
    """

    def __init__(
        self,
        student: dspy.Module,
        store: str | Path | Remote,
        channel: str,
        options: RecordingOptions | None = None,
        *,
        space: ConfigurationSpace | None = None,
        as_it_is: Callables | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_module(student)
        check_space(space)
        check_channel(channel)
        options = options or RecordingOptions()
        self.channel = channel
        self._student = student
        self._space = space or ConfigurationSpace.from_module(student)
        self._follower: Follower | RemoteFollower
        if isinstance(store, Remote):
            if options.keep_examples:
                raise ConfigError("keep_examples needs the store's own file: give its path, or leave keep_examples out")
            self.store: Path | str = store.url
            self._follower = RemoteFollower(store)
            writer: Writer = remote_writer_of(store, _threads)
        else:
            self.store = checked_path(store)
            self._follower = Follower(self.store, channel, clock)
            writer = writer_of(self.store, _threads)
        self.recorder = CallRecorder(writer, channel, options, _threads)
        self._healthy = True
        self._lock = threading.Lock()
        self._locked_for_fork = False
        self._served = Served()
        self._bound: dict[str, tuple[Configuration, dspy.Module]] = {}
        self._warn_once, self._warn_of_threads = WarnOnce(logger), WarnOnce(logger)
        student_as_it_is = BoundVersion(STUDENT_VERSION, student, as_it_is or Callables.of(student))
        self.routing_table = RoutingTable(student_as_it_is)
        survive_forks(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """Return None: a copy of a live program follows no channel, so that changes to it count."""

    def sync(self) -> None:
        """Take up what was published since the last look. Blocks while it reads the file and binds versions.

        A local publication is waited for; otherwise a call does not wait for another one that is reading.
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
            await self._in_thread(self.sync)
        elif self._lock.acquire(blocking=False):
            try:
                stale = self._follower.is_stale()
            finally:
                self._lock.release()
            if stale:
                await self._in_thread(self._locked_refresh)

    @property
    def state(self) -> LiveState:
        """Freshness of the routing table."""
        if self._healthy:
            return LiveState.READY
        is_student = self.routing_table.current.version == STUDENT_VERSION
        return LiveState.ERROR if is_student else LiveState.STALE

    def pick(self) -> BoundVersion:
        """Return the version for a run that begins now."""
        return pick(self, self.routing_table)

    def run(self, version: BoundVersion, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run `version` and return its prediction. Blocks."""
        if not self._needs_context():
            return version.callables.call(*args, **kwargs)
        with self._context(version) as trace:
            prediction = version.callables.call(*args, **kwargs)
        self._record(version, args, kwargs, prediction, trace)
        return prediction

    async def run_on_loop(self, version: BoundVersion, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run `version` and return its prediction: by its `acall`, or in a thread if it has none."""
        acall = version.callables.acall
        if acall is None:
            return await self._in_thread(lambda: self.run(version, args, kwargs))
        if not self._needs_context():
            return await acall(*args, **kwargs)
        with self._context(version) as trace:
            prediction = await acall(*args, **kwargs)
        self._record(version, args, kwargs, prediction, trace)
        return prediction

    def set_lm(self, lm: dspy.BaseLM) -> None:
        """Set the LM of all versions, except where a version's configuration chooses the LM."""
        with self._lock:
            for configuration, program in self._bound.values():
                for name, predictor in cast("list[tuple[str, Any]]", program.named_predictors()):
                    if configuration.values.get(f"{name}.{LM}") is None:
                        predictor.lm = lm

    def close(self) -> None:
        """Wait until what was recorded is stored, and close the file. The next `sync` opens it again."""
        self.recorder.close()
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

    def _needs_context(self) -> bool:
        """Return whether a run needs DSPy settings of its own. Setting them takes longer than all the rest."""
        return self.recorder.wants_runs or is_streamed()

    @contextmanager
    def _context(self, version: BoundVersion) -> Generator[list[Any]]:
        """Set DSPy's settings for a run, and yield the run's trace. The caller's own trace gets its entries too."""
        settings = cast("dict[str, Any]", dspy.settings.copy())
        own = streamed_as(self._student, version.program, settings)
        trace: list[Any] = []
        if self.recorder.wants_runs:
            own["trace"] = trace
        try:
            with dspy.context(**own):
                yield trace
        finally:
            callers: list[Any] | None = settings["trace"]
            if trace and callers is not None:
                callers.extend(trace)
                del callers[: max(0, len(callers) - settings["max_trace_size"])]

    def _record(
        self, version: BoundVersion, args: tuple[Any, ...], kwargs: dict[str, Any], prediction: Any, trace: list[Any]
    ) -> None:
        if self.recorder.wants_runs and not args:
            self.recorder.record(LiveRun(call_id(self, version), version, kwargs, prediction, trace))

    async def _in_thread(self, call: Callable[[], R]) -> R:
        """Return what `call()` returns, run in a thread; on the event loop if the process can't start any thread."""
        async with _thread_limiter():
            try:
                answer = _threads.submit(call)
            except RuntimeError as error:
                self._warn_of_threads(
                    f"calls of channel {self.channel!r} block the event loop, since the process can't start threads "
                    f"for them ({error}): raise its limit"
                )
                return call()
            return await answer

    def _locked_refresh(self) -> None:
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        """Read what the channel serves and bind it. Never raises: the last table serves whatever happens."""
        try:
            self._healthy = False
            self._take(self._follower.read())
        except SimbaError as error:
            self._warn_once(f"{error}; channel {self.channel!r} keeps running {self._current()}")
        except Exception as error:  # noqa: BLE001 - such as a value of a type that this library never writes
            self._warn_once(
                f"what {self.store} says of channel {self.channel!r} can't be used: {Secrets().describe(error)}; "
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
        self._healthy = True
        if snapshot.served == self._served:
            return
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


def _thread_limiter() -> CapacityLimiter:
    """Return the limiter of the running event loop."""
    settings: Any = dspy.settings
    most = max(THREADS, settings.async_max_workers)
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(most)
        _limiter.set(limiter)
    limiter.total_tokens = most
    return limiter
