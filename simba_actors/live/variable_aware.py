"""VariableAware: users' own modules that follow a channel themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy

from simba_actors.live.module import LiveModule
from simba_actors.live.precedence import going_first
from simba_actors.live.serving import Serving


class VariableAware(LiveModule):
    """A module, or a mixin for one, whose runs have the newest configuration that was published to a channel.

        class Bot(VariableAware):
            def __init__(self):
                super().__init__()
                self.answer = dspy.Predict("question -> answer")

            async def aforward(self, question):
                return await self.answer.acall(question=question)

        bot = Bot()
        bot.follow("simba.db", channel="support-bot")

    As with `LiveProgram`, a run keeps the version that it began with: it runs a copy of the module that is never
    changed. The module itself is what runs until something is published, and while it does not follow a channel.
    """

    def follow(self, store: str | Path, channel: str = "default") -> None:
        """Follows `channel` of `store` from the next run on; neither need exist yet.

        Raises:
            NoPredictorsError: The module has nothing to configure.
            ConfigError: `channel` is no name for a channel.
        """
        self._serving = Serving(self, store, channel, prepare=_following_no_channel)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._serving is None:
            return super().__call__(*args, **kwargs)
        self.sync_variables()
        chosen = self._serving.choose()
        if chosen.program is self:
            with going_first():
                return super().__call__(*args, **kwargs)
        return self._serving.run(chosen, args, kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        if self._serving is None:
            return await super().acall(*args, **kwargs)
        await self._serving.sync_on_loop()
        chosen = self._serving.choose()
        if chosen.program is self:
            with going_first():
                return await super().acall(*args, **kwargs)
        return await self._serving.run_on_loop(chosen, args, kwargs)


def _following_no_channel(program: dspy.Module) -> dspy.Module:
    """A copy of a module that follows a channel is one version of it, and stays that."""
    vars(program).pop("_serving", None)
    return program
