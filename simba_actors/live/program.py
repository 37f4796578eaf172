"""LiveProgram: a student that always runs with what was published last."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dspy

from simba_actors.live.calls import LiveCall, call_block
from simba_actors.live.serving import Serving


class LiveProgram(dspy.Module):
    """Runs `student` with the newest configuration that was published to a channel.

        live = LiveProgram(student, store="simba.db", channel="support-bot")
        prediction = await live.acall(question="…")     # or live(question="…")

    What this process publishes is seen by the next call, what others publish within a second. A run keeps the version
    that it began with. Where the store is missing, empty or damaged, the student runs as it is, or goes on with the
    version that was read last; that is logged once, and no call ever fails of it.

    Args:
        student: Never changed. Where it has no async side, `acall` runs it in a thread.
        store: The store's file, which need not exist yet.
        channel: The channel to follow, which need not exist yet.

    Raises:
        NoPredictorsError: The student has nothing to configure.
        ConfigError: `channel` is no name for a channel.
    """

    def __init__(self, student: dspy.Module, *, store: str | Path, channel: str = "default") -> None:
        super().__init__()
        self.student = student
        self._serving = Serving(student, store, channel)

    @property
    def version(self) -> int:
        """The current version of the channel as far as it is known; 0 is the student itself."""
        return self._serving.lineup.current.version

    def sync_variables(self) -> None:
        """Takes up what was published. Every call does that first; a run that has begun is not changed by it."""
        self._serving.sync()

    def call(self, key: str | None = None) -> AbstractContextManager[LiveCall]:
        """A block whose runs share a version, and tell which.

            with live.call(key=user_id) as call:
                prediction = await live.acall(question="…")
            print(call.version, call.id)

        While there is a canary, calls with the same `key` get the same version; without a key it is drawn by lot.
        """
        return call_block(self._serving, key)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.sync_variables()
        serving = self._serving
        return serving.run(serving.choose(), args, kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        serving = self._serving
        await serving.sync_on_loop()
        return await serving.run_on_loop(serving.choose(), args, kwargs)
