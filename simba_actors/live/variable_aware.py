"""VariableAware: users' own modules that follow a channel themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from simba_actors.live.module import LiveModule
from simba_actors.live.observer import Observation
from simba_actors.live.serving import Serving
from simba_actors.programs import ConfigurationSpace


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
    changed, in a thread where `acall` is asked of a module without an async side. The module itself is what runs until
    something is published, and while it does not follow a channel. A copy of it, such as a candidate of an optimizer,
    follows none until it is told to.
    """

    def follow(
        self,
        store: str | Path,
        channel: str = "default",
        *,
        space: ConfigurationSpace | None = None,
        metric: Callable[..., Any] | None = None,
        keep_examples: int = 0,
    ) -> None:
        """Follows `channel` of `store` from the next run on; neither need exist yet.

        `space`, `metric` and `keep_examples` are those of `LiveProgram`.

        Raises:
            NoPredictorsError: The module has nothing to configure.
            ConfigError: A value is out of range; the message names it.
        """
        wanted = Observation(metric, keep_examples)
        self._serving = Serving(self, store, channel, wanted, space=space, as_it_is=self._as_it_is())
