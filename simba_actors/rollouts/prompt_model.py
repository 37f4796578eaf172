"""Asking the LM that writes instructions."""

from __future__ import annotations

from typing import Any

import dspy

from simba_actors.algorithm.trajectory import Usage
from simba_actors.errors import InfrastructureError, LMUnavailableError
from simba_actors.rollouts.outcomes import infrastructure_cause
from simba_actors.rollouts.usage import Meter
from simba_actors.rollouts.watch import SETTING, Watch


class LocalPromptModel:
    """Asks a governed LM in this process's event loop, and counts what that used."""

    def __init__(self, lm: Any) -> None:
        self._lm = lm
        self._meter = Meter()

    @property
    def usage(self) -> Usage:
        """Of all questions asked so far."""
        return self._meter.total

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        """The LM's answer to `signature`.

        Raises:
            InfrastructureError: The LM could not be reached.
            Exception: What `dspy.Predict` raises when the reply can't be parsed.
        """
        settings: Any = dspy.settings
        watch = Watch(self._meter, keeps_history=not settings.disable_history)
        try:
            with dspy.context(**{"trace": [], "lm": self._lm, "disable_history": False, SETTING: watch}):
                return await dspy.Predict(signature).acall(**inputs)
        except Exception as error:
            cause = infrastructure_cause(error)
            if cause is None:
                raise
            if isinstance(cause, InfrastructureError):
                raise cause from error
            raise LMUnavailableError(f"the prompt model failed: {type(cause).__name__}: {cause}") from error
