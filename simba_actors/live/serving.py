"""From what is published to programs that are ready to run, whatever state the store is in."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import dspy

from simba_actors.config_checks import check_module, check_space
from simba_actors.dspy_compat.streaming import is_streamed, streamed_as
from simba_actors.errors import MisfitError, SimbaError
from simba_actors.live.calls import choose, id_of
from simba_actors.live.follower import Follower, Offer
from simba_actors.live.observer import LiveRun, Observation, Observer
from simba_actors.live.routing_table import STUDENT, BoundVersion, Lineup, Sides
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.variables import LM
from simba_actors.publishing.channel import check_channel
from simba_actors.publishing.publications import Publication, Served
from simba_actors.runtime.threads import Threads
from simba_actors.store.opening import checked_path

logger = logging.getLogger(__name__)


class Serving:
    """Keeps the lineup of a student's versions up to date.

    A lineup is replaced as a whole and its programs are never changed, but for their LM by `set_lm`, so a run keeps the
    version that it began with.
    Whatever is wrong with the store or what was published there is logged, once, and the last good lineup stays.

    Args:
        student: Runs as it is until something is published. Never changed.
        store: The store's file, which need not exist.
        channel: The channel to follow, which need not exist.
        wanted: What to note of the calls.
        space: What can be configured; by default the instructions and demos of each predictor.
        as_it_is: How the student itself is run, where calling it asks what is published.
        clock: Seconds, for how often to look.
    """

    def __init__(
        self,
        student: dspy.Module,
        store: str | Path,
        channel: str,
        wanted: Observation | None = None,
        *,
        space: ConfigurationSpace | None = None,
        as_it_is: Sides | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_module(student)
        check_space(space)
        check_channel(channel)
        self.channel = channel
        self.store = checked_path(store)
        self._student = student
        self.observer = Observer(self.store, channel, wanted or Observation(), time.time)
        self._space = space or ConfigurationSpace.from_module(student)
        self._follower = Follower(self.store, channel, clock)
        self._threads = Threads()
        self._lock = threading.Lock()
        self._served = Served()
        self._bound: dict[str, tuple[Configuration, dspy.Module]] = {}
        self._trouble: str | None = None
        self.lineup = Lineup(BoundVersion(STUDENT, student, as_it_is or Sides.of(student)))

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """None: a copy of a live program follows no channel, so that what is changed in it counts."""

    def sync(self) -> None:
        """Takes up what was published since the last time. Blocks while it reads and binds."""
        if self._follower.is_due():
            with self._lock:
                if self._follower.is_stale():
                    self._take_up()

    async def sync_on_loop(self) -> None:
        """As `sync`, without blocking the event loop.

        What was published in this process is waited for; other calls go on while one of them reads the file.
        """
        if not self._follower.is_due():
            return
        if self._follower.published_here():
            await self._threads.run(self.sync)
        elif self._lock.acquire(blocking=False):
            try:
                stale = self._follower.is_stale()
            finally:
                self._lock.release()
            if stale:
                await self._threads.run(self._locked_take_up)

    def set_lm(self, lm: dspy.BaseLM) -> None:
        """Has the versions call `lm`, but where a version says itself what it calls."""
        with self._lock:
            for configuration, program in self._bound.values():
                for name, predictor in cast("list[tuple[str, Any]]", program.named_predictors()):
                    if configuration.values.get(f"{name}.{LM}") is None:
                        predictor.lm = lm

    def choose(self) -> BoundVersion:
        """The version for a run that begins now."""
        return choose(self, self.lineup)

    def run(self, chosen: BoundVersion, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the chosen version gives. Blocks."""
        if not self._is_attended():
            return chosen.sides.call(*args, **kwargs)
        with self._attended(chosen) as trace:
            prediction = chosen.sides.call(*args, **kwargs)
        self._ran(chosen, args, kwargs, prediction, trace)
        return prediction

    async def run_on_loop(self, chosen: BoundVersion, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the chosen version gives: by its async side, or in a thread where it has none."""
        acall = chosen.sides.acall
        if acall is None:
            return await self._threads.run(lambda: self.run(chosen, args, kwargs))
        if not self._is_attended():
            return await acall(*args, **kwargs)
        with self._attended(chosen) as trace:
            prediction = await acall(*args, **kwargs)
        self._ran(chosen, args, kwargs, prediction, trace)
        return prediction

    def _is_attended(self) -> bool:
        """Whether more is to be done than running the program: next to nothing is as quick as that."""
        return self.observer.wants_runs or is_streamed()

    @contextmanager
    def _attended(self, chosen: BoundVersion) -> Generator[list[Any]]:
        """What is to be done around a run; gives its trace, if somebody wants it. The caller's own trace gets it too.

        DSPy's settings are asked once and set once: either takes longer than all the rest.
        """
        now = cast("dict[str, Any]", dspy.settings.copy())
        settings = streamed_as(self._student, chosen.program, now)
        trace: list[Any] = []
        if self.observer.wants_runs:
            settings["trace"] = trace
        try:
            with dspy.context(**settings):
                yield trace
        finally:
            callers: list[Any] | None = now["trace"]
            if trace and callers is not None:
                callers.extend(trace)
                del callers[: max(0, len(callers) - now["max_trace_size"])]

    def _ran(
        self, chosen: BoundVersion, args: tuple[Any, ...], kwargs: dict[str, Any], prediction: Any, trace: list[Any]
    ) -> None:
        if self.observer.wants_runs and not args:
            self.observer.ran(LiveRun(id_of(self, chosen), chosen, kwargs, prediction, trace))

    def close(self) -> None:
        """Waits until what was noted is stored, and lets go of the file. The next `sync` opens it again."""
        self.observer.close()
        with self._lock:
            self._follower.close()

    def _locked_take_up(self) -> None:
        with self._lock:
            self._take_up()

    def _take_up(self) -> None:
        try:
            self._read_and_line_up()
        finally:
            self._follower.taken_up()

    def _read_and_line_up(self) -> None:
        try:
            self._take(self._follower.read())
        except SimbaError as error:
            self._say(f"{error}; channel {self.channel!r} goes on with {self._current()}")

    def _take(self, offer: Offer) -> None:
        if offer.served.current is None:
            self._say(f"{self.store} has no channel {self.channel!r} yet: {self._current()} runs until there is one")
            return
        self._trouble = None
        if offer.served != self._served:
            self._line_up(offer.served, offer.configurations)
            self._served = offer.served

    def _line_up(self, served: Served, configurations: dict[int, Configuration]) -> None:
        current, canary = self._current_of(served, configurations), self._canary_of(served, configurations)
        number = canary.version if canary is not None else 0
        current, canary = replace(current, canary=number), canary and replace(canary, canary=number)
        share = served.canary.share if canary is not None and served.canary is not None else None
        before, self.lineup = self.lineup, Lineup(current, canary, share or 0.0)
        self._bound = {
            digest: (configuration, program)
            for digest, (configuration, program) in self._bound.items()
            if any(version is not None and program is version.program for version in (current, canary))
        }
        if self.lineup.current.version != before.current.version:
            logger.info("channel %r runs version %d", self.channel, current.version)

    def _current_of(self, served: Served, configurations: dict[int, Configuration]) -> BoundVersion:
        """The current version; the last good one where it does not fit the student."""
        if served.current is None:
            return self.lineup.current
        try:
            return self._bind(served.current, configurations[served.current.version])
        except SimbaError as error:
            good = self._last_good(served.current)
            self._say(f"{self._misfit(served.current, error)}; {_name(good)} goes on")
            return good

    def _canary_of(self, served: Served, configurations: dict[int, Configuration]) -> BoundVersion | None:
        if served.canary is None:
            return None
        try:
            return self._bind(served.canary, configurations[served.canary.version])
        except SimbaError as error:
            self._say(f"{self._misfit(served.canary, error)}; no call gets it")
            return None

    def _last_good(self, misfit: Publication) -> BoundVersion:
        """What ran before `misfit`, here or, where nothing did yet, before this process was."""
        if self.lineup.current.version != STUDENT:
            return self.lineup.current
        for publication, configuration in self._follower.earlier(misfit.version):
            with suppress(SimbaError):
                return self._bind(publication, configuration)
        return self.lineup.current

    def _bind(self, publication: Publication, configuration: Configuration) -> BoundVersion:
        """The version, ready to run. Raises MisfitError or NotJSONError if it does not fit the student."""
        digest = publication.digest
        if digest not in self._bound:
            self._bound[digest] = configuration, self._applied(configuration)
        _, program = self._bound[digest]
        return BoundVersion(publication.version, program, Sides.of(program))

    def _applied(self, configuration: Configuration) -> dspy.Module:
        try:
            return self._space.apply(configuration, self._student)
        except SimbaError:
            raise
        except Exception as error:  # The student's own code may raise anything when it is given a value.
            raise MisfitError(f"{type(error).__name__}: {error}") from error

    def _misfit(self, publication: Publication, error: SimbaError) -> str:
        return f"version {publication.version} of channel {self.channel!r} does not fit the student: {error}"

    def _current(self) -> str:
        return _name(self.lineup.current)

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            logger.warning("%s", trouble)


def _name(version: BoundVersion) -> str:
    return "the student as it is" if version.version == STUDENT else f"version {version.version}"
