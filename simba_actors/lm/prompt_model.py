"""Asking the LM that writes instructions."""

from __future__ import annotations

from typing import Any

import dspy

from simba_actors.errors import InfrastructureError, LMUnavailableError, RolloutTimeoutError
from simba_actors.lm.failures import infrastructure_cause
from simba_actors.lm.rollout_context import SETTING, Deadline, RolloutContext
from simba_actors.lm.secrets import Secrets
from simba_actors.lm.usage import Meter
from simba_actors.search.trajectory import Usage

ATTEMPTS = 3
"""How often a question is asked that is not answered in time."""


class LocalPromptModel:
    """Asks a governed LM in this process's event loop, and counts what that used.

    `timeout` is in seconds, for one answer, waiting for its turn at the endpoint not counted. Errors tell no `secrets`.
    """

    def __init__(self, lm: Any, secrets: Secrets, timeout: float = 300.0) -> None:
        self._lm = lm
        self._secrets = secrets
        self._timeout = timeout
        self._meter = Meter()

    @property
    def usage(self) -> Usage:
        """Of all questions asked so far."""
        return self._meter.total

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        """The LM's answer to `signature`.

        Raises:
            InfrastructureError: The LM could not be reached, or did not answer in time.
            Exception: What `dspy.Predict` raises when the reply can't be parsed.
        """
        for _ in range(ATTEMPTS):
            answer = await self._ask_once(signature, inputs)
            if answer is not None:
                return answer
        raise RolloutTimeoutError(f"the prompt model took longer than {self._timeout:g} s, {ATTEMPTS} times in a row")

    async def _ask_once(self, signature: type[dspy.Signature], inputs: dict[str, Any]) -> dspy.Prediction | None:
        """The answer, or None if it took too long."""
        settings: Any = dspy.settings
        deadline = Deadline(self._timeout)
        rollout = RolloutContext(self._meter, deadline, keeps_history=not settings.disable_history)
        try:
            with dspy.context(**{"trace": [], "lm": self._lm, "disable_history": False, SETTING: rollout}), deadline:
                return await dspy.Predict(signature).acall(**inputs)
        except Exception as error:
            if rollout.stopped_by is not None:
                raise rollout.stopped_by from error
            cause = infrastructure_cause(error)
            if cause is None:
                raise
            if isinstance(cause, InfrastructureError):
                raise cause from error
            raise LMUnavailableError(f"the prompt model failed: {self._secrets.describe(cause)}") from error
        finally:
            rollout.end()
        return None
