"""Running a version of a live program, on the event loop or in a thread, and recording the call."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import dspy

from simba_actors.dspy_compat.settings import add_to_trace, own_trace
from simba_actors.dspy_compat.streaming import is_streamed, streamed_as
from simba_actors.errors import ConfigError
from simba_actors.live.background import threads
from simba_actors.live.calls import call_id, pick
from simba_actors.live.recording import CallRecorder, LiveRun, RecordingOptions, Writer, writer_of
from simba_actors.live.reporting import remote_writer_of
from simba_actors.live.router import BoundVersion, Router
from simba_actors.live.wire import Remote
from simba_actors.store.opening import checked_path


class Runner:
    """Runs the versions in the routing table of one live program, and records its calls.

    Args:
        student: The live program's student.
        store: Where calls are recorded: the store's file, or the server of a store on another host.
        channel: The channel's name.
        options: What to record about the calls.

    Raises:
        ConfigError: Examples are to be kept, which a server can't do.
    """

    def __init__(
        self, student: dspy.Module, store: str | Path | Remote, channel: str, options: RecordingOptions
    ) -> None:
        self._student = student
        if isinstance(store, Remote):
            if options.keep_examples:
                raise ConfigError("keep_examples needs the store's own file: give its path, or leave keep_examples out")
            writer: Writer = remote_writer_of(store, threads)
        else:
            writer = writer_of(checked_path(store), threads)
        self.recorder = CallRecorder(writer, channel, options, threads)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """Return None: a copy of a live program follows no channel."""

    def run(self, router: Router, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the version for a call that begins now, and return its prediction. Blocks."""
        return self._run(router, pick(router, router.routing_table), args, kwargs)

    async def run_on_loop(self, router: Router, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the version for a call that begins now with its `acall`, or in a thread if it has none."""
        version = pick(router, router.routing_table)
        acall = version.callables.acall
        if acall is None:
            return await router.threads.run(lambda: self._run(router, version, args, kwargs))
        if not self._needs_context():
            return await acall(*args, **kwargs)
        with self._context(version) as trace:
            prediction = await acall(*args, **kwargs)
        self._record(router, version, args, kwargs, prediction, trace)
        return prediction

    def _run(self, router: Router, version: BoundVersion, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._needs_context():
            return version.callables.call(*args, **kwargs)
        with self._context(version) as trace:
            prediction = version.callables.call(*args, **kwargs)
        self._record(router, version, args, kwargs, prediction, trace)
        return prediction

    def _needs_context(self) -> bool:
        """Return whether a run needs DSPy settings of its own. Setting them takes longer than everything else."""
        return self.recorder.wants_runs or is_streamed()

    @contextmanager
    def _context(self, version: BoundVersion) -> Generator[list[Any]]:
        """Set DSPy's settings for a run, and yield the run's trace. The caller's own trace gets its entries too."""
        settings = cast("dict[str, Any]", dspy.settings.copy())
        own = streamed_as(self._student, version.program, settings)
        trace: list[Any] = []
        if self.recorder.wants_runs:
            own |= own_trace(trace)
        try:
            with dspy.context(**own):
                yield trace
        finally:
            add_to_trace(trace)

    def _record(
        self,
        router: Router,
        version: BoundVersion,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        prediction: Any,
        trace: list[Any],
    ) -> None:
        if self.recorder.wants_runs and not args:
            self.recorder.record(LiveRun(call_id(router, version), version, kwargs, prediction, trace))
