"""The LM of a remote student. Runs are calls of this LM, so the optimizer governs, counts and retries them."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import dspy
from dspy.utils.exceptions import LMConfigurationError

from simba_actors.bridge.calls import StudentCallError
from simba_actors.bridge.connection import Connection, RemoteRun
from simba_actors.bridge.messages import (
    Description,
    RunOutcome,
    RunReply,
    RunRequest,
)
from simba_actors.lm.failures import FailureClass
from simba_actors.lm.rollout_context import current_rollout
from simba_actors.lm.usage import MOST_DOLLARS, MOST_TOKENS
from simba_actors.runtime.logs import get_logger

logger = get_logger(__name__)

MOST_USED = {"calls": 100_000, "promptTokens": MOST_TOKENS, "completionTokens": MOST_TOKENS, "cost": MOST_DOLLARS}
"""Highest plausible usage of one Run."""


UNKNOWN_CONCURRENCY = 1024
"""Number of Runs at a time for a student that states no maximum. It refuses those that are too many."""


class RemoteLM(dspy.BaseLM):
    """An LM of a remote student. It represents the LM that the program calls where it runs.

    The optimizer governs, counts and retries calls of LMs. For Runs to be treated the same way, each Run is a call of
    this LM whose prompt is the request. No other prompt can be sent.
    """

    def __init__(self, connection: Connection, program: Description, name: str) -> None:
        super().__init__(f"{program.name}/{name}" if name else program.name, cache=False, num_retries=0)
        self.connection = connection
        self.name = name
        """The LM's name in the description; "" for the program's own."""
        self.accepted_runs = (program.max_concurrency or UNKNOWN_CONCURRENCY) * len(connection.addresses)
        """Number of Runs that the student accepts at a time."""
        self._reports = _Reports(program.name)

    def __call__(self, prompt: Any = None, **kwargs: Any) -> Any:
        return self._answer(prompt, self._run(prompt).send())

    async def acall(self, prompt: Any = None, **kwargs: Any) -> Any:
        run = self._run(prompt)
        try:
            reply = await self.connection.threads.run(run.send)
        except asyncio.CancelledError:
            run.cancel()
            raise
        return self._answer(prompt, reply)

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return self(prompt, **kwargs)

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return await self.acall(prompt, **kwargs)

    def _run(self, request: Any) -> RemoteRun:
        if not isinstance(request, RunRequest):
            raise LMConfigurationError(
                f"{self.model} is the LM of a program elsewhere, and can't be called from here. If it is to write "
                "rules, pass prompt_model=dspy.LM(…); if a metric asks it, give the metric an LM of its own"
            )
        rollout = current_rollout()
        left = None if rollout is None else rollout.seconds_left
        seconds = self.connection.timeout if left is None else left
        return RemoteRun(self.connection, request.model_copy(update={"timeout_seconds": seconds}))

    def _answer(self, request: RunRequest, reply: RunReply) -> RunReply:
        """Record what the Run used, and raise StudentCallError if the infrastructure failed."""
        self.update_history(self._reports.entry(str(cast("Any", self).model), request, reply))
        failure = reply.failure
        if reply.outcome is RunOutcome.INFRASTRUCTURE_FAILURE and failure is not None:
            permanent = FailureClass.REJECTED if failure.rejected else FailureClass.PERSISTENT
            raise StudentCallError(
                f"{self.model} reports {failure.type}: {failure.message}",
                permanent if failure.permanent else FailureClass.TRANSIENT,
                retry_after=failure.retry_after_seconds or None,
            )
        return reply


class _Reports:
    """Makes history entries from replies, and ignores usage that can't be true."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._warned = False

    def entry(self, model: str, request: RunRequest, reply: RunReply) -> dict[str, Any]:
        """Return a Run as an entry of an LM's history."""
        used = reply.usage
        known: dict[str, Any] = {
            name: value for name, most in MOST_USED.items() if _is_amount(value := used.get(name), most)
        }
        doubtful = {name: used[name] for name in MOST_USED if used.get(name) is not None and name not in known}
        if doubtful and not self._warned:
            self._warned = True
            logger.warning(
                "%s reports usage that can't be true, %s: its tokens and cost count as unknown, and each of its Runs "
                "as one call. Correct what it reports",
                self._program,
                json.dumps(doubtful, default=str)[:200],
            )
        if doubtful:
            known = {}
        calls = int(known.get("calls", 1))
        unused = 0 if calls == 0 else None
        shown = reply.prediction if reply.failure is None else reply.failure.to_json()
        return {
            "model": model,
            "prompt": json.dumps(request.inputs),
            "outputs": [json.dumps(shown)],
            "calls": calls,
            "usage": {
                "prompt_tokens": known.get("promptTokens", unused),
                "completion_tokens": known.get("completionTokens", unused),
            },
            "cost": known.get("cost", unused),
        }


def _is_amount(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
