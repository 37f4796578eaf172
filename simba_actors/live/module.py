"""What all live modules can be asked."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import dspy

from simba_actors.errors import PublicationError
from simba_actors.live.calls import LiveCall, call_block
from simba_actors.live.routing_table import STUDENT, Sides
from simba_actors.live.serving import Serving
from simba_actors.programs.entry_points import runs_async, sync_call


class LiveModule(dspy.Module):
    """Base of modules that run what was published last to a channel.

    A copy of one follows no channel: it is a module like any other, that can be changed, compiled and optimized.
    """

    _serving: Serving | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._serving is None:
            return super().__call__(*args, **kwargs)
        self._serving.sync()
        return self._serving.run(self._serving.choose(), args, kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        if self._serving is None:
            return await super().acall(*args, **kwargs)
        await self._serving.sync_on_loop()
        return await self._serving.run_on_loop(self._serving.choose(), args, kwargs)

    @property
    def version(self) -> int:
        """The current version of the channel as far as it is known; 0 is the student itself."""
        return STUDENT if self._serving is None else self._serving.lineup.current.version

    def sync_variables(self) -> None:
        """Takes up what was published. Every run does that first; one that has begun is not changed by it."""
        if self._serving is not None:
            self._serving.sync()

    def set_lm(self, lm: dspy.BaseLM) -> None:
        """The LM of every predictor, but for those whose LM the version itself names; see `ConfigurationSpace`."""
        super().set_lm(lm)
        if self._serving is not None:
            self._serving.set_lm(lm)

    def call(self, key: str | None = None) -> AbstractContextManager[LiveCall]:
        """A block whose runs share a version, and tell which.

            with live.call(key=user_id) as call:
                prediction = await live.acall(question="…")
            live.report(1.0, call.id)

        While there is a canary, calls with the same `key` get the same version; without a key it is drawn by lot.
        """
        return call_block(self._followed(), key)

    def report(self, score: float, call_id: str) -> None:
        """The score of a call, higher is better, from this process or another, also after a restart.

        Scores of calls beside a canary decide about it. A second score of the same call does not count. Never waits.

        Ids are not signed: who can report can also make one up, and so decide about a canary. Where scores come from
        users, take only those for ids that were given to the user who sends them.

        Raises:
            UnknownCallError: That does not look like a call's id.
            ConfigError: The score is no number between -1e18 and 1e18.
        """
        self._followed().observer.report(score, call_id)

    def close(self) -> None:
        """Waits until all scores are stored, and lets go of the store. The next run opens it again."""
        if self._serving is not None:
            self._serving.close()

    def _followed(self) -> Serving:
        if self._serving is None:
            raise PublicationError(
                f"{type(self).__name__} follows no channel, as copies of live programs don't: ask the live program "
                "itself, or call follow(store, channel) first"
            )
        return self._serving

    def _as_it_is(self) -> Sides:
        """What runs the module itself, whatever is published."""
        plain: Any = super()
        return Sides(sync_call(self, plain.__call__, plain.acall), plain.acall if runs_async(self) else None)
