"""VariableAware: users' own modules that follow a channel themselves."""

from __future__ import annotations

from pathlib import Path

from simba_actors.live.module import LiveModule
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
    changed. The module itself is what runs until something is published, and while it does not follow a channel. A copy
    of it, such as a candidate of an optimizer, follows none until it is told to.
    """

    def follow(self, store: str | Path, channel: str = "default") -> None:
        """Follows `channel` of `store` from the next run on; neither need exist yet.

        Raises:
            NoPredictorsError: The module has nothing to configure.
            ConfigError: `channel` is no name for a channel.
        """
        self._serving = Serving(self, store, channel, as_it_is=self._as_it_is())
