"""Questions to the LM that writes rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dspy
from dspy.utils.exceptions import ContextWindowExceededError

from simba_actors.errors import (
    InfrastructureError,
    LMUnavailableError,
    PromptTooLongError,
    ReplyCutOffError,
    RolloutTimeoutError,
)
from simba_actors.lm.failures import FailureClass, causes, classify, infrastructure_cause
from simba_actors.lm.rollout_context import SETTING, Deadline, RolloutContext
from simba_actors.lm.secrets import Secrets
from simba_actors.lm.usage import Meter
from simba_actors.runtime.logs import get_logger
from simba_actors.search.rollout import Usage

logger = get_logger(__name__)

ATTEMPTS = 3
"""Maximum number of attempts at a question that is not answered in time."""

MORE_ROOM = 4
"""Factor by which the token limit is raised for a reply that was cut off."""

LONG_PROMPT = 20_000
"""Characters above which a refused prompt counts as too long, since DSPy does not recognize every provider's error."""


class LocalPromptModel:
    """Asks a governed LM in this process's event loop, and counts the usage.

    `timeout` is the maximum number of seconds for one answer, without the time that a call waits for its turn at the
    endpoint. Error messages contain no `secrets`. `govern` returns the governed twin of another LM that a question
    calls, such as that of a `dspy.TwoStepAdapter`.
    """

    def __init__(
        self, lm: Any, secrets: Secrets, timeout: float = 300.0, govern: Callable[[Any], Any] | None = None
    ) -> None:
        self._govern = govern
        self._lm = lm
        self._secrets = secrets
        self._timeout = timeout
        self._meter = Meter()

    @property
    def usage(self) -> Usage:
        """Usage of all questions so far."""
        return self._meter.total

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        """Return the LM's answer to `signature`. A reply that was cut off is asked for once more with more room.

        Raises:
            InfrastructureError: The LM could not be reached, or did not answer in time.
            PromptTooLongError: The prompt exceeds the LM's context window.
            ReplyCutOffError: The reply was cut off again.
            Exception: What `dspy.Predict` raises for a reply that can't be parsed.
        """
        try:
            return await self._ask(signature, inputs, {})
        except ReplyCutOffError:
            room = _more_room(self._lm)
            if not room:
                raise
            logger.info("the prompt model's reply was cut off; asking again with %s", room)
        try:
            return await self._ask(signature, inputs, room)
        except Exception as error:
            if isinstance(error, InfrastructureError) or not _is_refusal(error):
                raise
            raise ReplyCutOffError(f"{_CUT_OFF}, and {room} is more than it accepts") from error

    async def _ask(
        self, signature: type[dspy.Signature], inputs: Mapping[str, Any], config: Mapping[str, Any]
    ) -> dspy.Prediction:
        hung_at: str | None = None
        for _ in range(ATTEMPTS):
            answer, hung_at = await self._ask_once(signature, inputs, config)
            if answer is not None:
                return answer
        raise RolloutTimeoutError(
            f"the prompt model took longer than rollout_timeout={self._timeout:g} s, {ATTEMPTS} times in a row: "
            f"{hung_at or 'it'} hangs, or the limit is too low",
            endpoint=hung_at,
        )

    async def _ask_once(
        self, signature: type[dspy.Signature], inputs: Mapping[str, Any], config: Mapping[str, Any]
    ) -> tuple[dspy.Prediction | None, str | None]:
        """Return the answer, or None and the endpoint that hangs. `config` has settings for this call of the LM."""
        settings: Any = dspy.settings
        deadline = Deadline(self._timeout)
        rollout = RolloutContext(self._meter, deadline, keeps_history=not settings.disable_history, govern=self._govern)
        answer: dspy.Prediction | None = None
        try:
            with dspy.context(**{"trace": [], "lm": self._lm, "disable_history": False, SETTING: rollout}):
                async with deadline:
                    answer = await dspy.Predict(signature, **config).acall(**inputs)
        except Exception as error:
            size = sum(len(str(value)) for value in inputs.values())
            if _is_overflow(error, size):
                raise PromptTooLongError(
                    f"the prompt model refused a prompt of {size:,} characters: {self._secrets.describe(error)}"
                ) from error
            if rollout.stopped_by is not None:
                raise rollout.stopped_by from error
            cause = infrastructure_cause(error)
            if isinstance(cause, InfrastructureError):
                raise cause from error
            if cause is not None:
                raise LMUnavailableError(f"the prompt model failed: {self._secrets.describe(cause)}") from error
            if not rollout.cut_off:
                raise
            raise ReplyCutOffError(_CUT_OFF) from error
        finally:
            rollout.end()
        if answer is not None and rollout.cut_off:
            raise ReplyCutOffError(_CUT_OFF)
        return answer, rollout.hung_at


_CUT_OFF = "the prompt model's reply was cut off at its token limit: raise max_tokens of `prompt_model`"


def _more_room(lm: Any) -> dict[str, int]:
    """Return the LM's token limit, raised. It is empty if the LM has none, since then the provider's limit holds."""
    for name in ("max_completion_tokens", "max_tokens"):
        limit = lm.kwargs.get(name)
        if isinstance(limit, int) and limit > 0:
            return {name: MORE_ROOM * limit}
    return {}


def _is_overflow(error: Exception, size: int) -> bool:
    """Return whether the LM refused a prompt of `size` characters because it is too long."""
    overflows = any(isinstance(cause, ContextWindowExceededError) for cause in causes(error))
    return overflows or (size > LONG_PROMPT and _is_refusal(error))


def _is_refusal(error: Exception) -> bool:
    """Return whether the LM refused the request, and would refuse it again."""
    return any(classify(cause) in (FailureClass.PROMPT, FailureClass.REJECTED) for cause in causes(error))
