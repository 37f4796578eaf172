"""LiveProgram: a student that always runs with what was published last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy

from simba_actors.live.module import LiveModule
from simba_actors.live.observer import Observation
from simba_actors.live.serving import Serving
from simba_actors.programs import ConfigurationSpace
from simba_actors.programs.entry_points import runs_async, sync_call


class LiveProgram(LiveModule):
    """Runs `student` with the newest configuration that was published to a channel.

        live = LiveProgram(student, store="simba.db", channel="support-bot")
        prediction = await live.acall(question="…")     # or live(question="…")

    What this process publishes is seen by the next call, what others publish within a second. A run keeps the version
    that it began with. Where the store is missing, empty or damaged, the student runs as it is, or goes on with the
    version that was read last; that is logged once, and no call ever fails of it.

    A copy, as `deepcopy` and DSPy's optimizers make it, follows no channel: it runs its own student as that is.

    Args:
        student: Never changed. Where it has no async side, `acall` runs it in a thread. Versions are copies of it, made
            when they are taken up: `live.set_lm(lm)` sets the LM of all of them.
        store: The store's file, which need not exist yet.
        channel: The channel to follow, which need not exist yet.
        space: What published configurations can hold: that of the run, where it chose LM settings too.
        metric: `metric(example, prediction)`, a plain function: scores each call, in a thread, as `report` would.
            `example` has the call's inputs, and no labels.
        keep_examples: Scored calls that the store keeps, with what users asked, as examples for later trainsets: a
            sample of the distinct ones, read by `Channel.examples`. 0, the default, keeps none. Calls with positional
            arguments are not kept.

    Raises:
        NoPredictorsError: The student has nothing to configure.
        ConfigError: A value is out of range; the message names it.
    """

    def __init__(
        self,
        student: dspy.Module,
        *,
        store: str | Path,
        channel: str = "default",
        space: ConfigurationSpace | None = None,
        metric: Callable[..., Any] | None = None,
        keep_examples: int = 0,
    ) -> None:
        super().__init__()
        self.student = student
        self._serving = Serving(student, store, channel, Observation(metric, keep_examples), space=space)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What a copy runs, which follows no channel."""
        student: Any = self.student
        return sync_call(student, student, student.acall)(*args, **kwargs)

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        student: Any = self.student
        if runs_async(student):
            return await student.acall(*args, **kwargs)
        return await dspy.asyncify(student)(*args, **kwargs)
