"""Serving a `dspy.Module` to optimizers in other processes: Describe, Run and Cancel, for both HTTP and gRPC."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import dspy
import orjson
from pydantic import ValidationError

from simba_actors.bridge.descriptions import describe
from simba_actors.bridge.messages import (
    LARGEST_MESSAGE,
    MAJOR,
    CancelReply,
    CancelRequest,
    DescribeRequest,
    Failure,
    Message,
    Object,
    RunOutcome,
    RunReply,
    RunRequest,
)
from simba_actors.bridge.program_runner import ProgramRunner, checked_states
from simba_actors.dspy_compat.settings import inherited_settings
from simba_actors.errors import NoLMError
from simba_actors.lm.governor import Governor
from simba_actors.programs import ConfigurationSpace
from simba_actors.programs.values import to_json_value
from simba_actors.programs.variables import Setting
from simba_actors.transport.refusals import Refusal

M = TypeVar("M", bound=Message)


REPLIES_KEPT_SECONDS = 600.0
"""Seconds for which the reply to a Run is remembered under its key."""


MOST_REPLIES = 2_000
"""Maximum number of replies that are remembered."""


BUSY_SECONDS = 0.5
"""Seconds after which an optimizer that sends too many Runs may try again."""


@dataclass(frozen=True, slots=True)
class _KnownRun:
    """A Run that is in progress or ended recently."""

    digest: bytes
    """Digest of the request, which distinguishes a repetition from another request with the same key."""
    task: asyncio.Task[RunReply]
    started: float


class StudentService:
    """Serves a program to optimizers in other processes.

        service = StudentService(program, models={"large": dspy.LM(…)})
        app = student_app(service)  # an ASGI application; or use `simba-actors student module:service`

    It belongs to the event loop of its first Run. Programs run under the `dspy.settings` that were current when the
    service was made.

    Args:
        program: Never changed. Each Run gets a copy.
        lm: LM of the predictors that have none of their own; by default `dspy.settings.lm`.
        models: Other LMs by name, which an optimizer may sample with or choose from.
        settings: LM settings that an optimizer may choose, as in `ConfigurationSpace.from_module`.
        code_version: Version of the program's code, such as a commit.
        max_concurrency: Maximum number of Runs at a time. An optimizer that sends more gets a refusal and sends fewer.
        governor: Sends the LM calls; by default one that all runs and services of the process share.

    Raises:
        StudentError: The program has no predictors.
        NoLMError: A predictor has no LM.
        ConfigError: A setting names an unknown predictor or model.
    """

    def __init__(
        self,
        program: dspy.Module,
        *,
        lm: dspy.BaseLM | None = None,
        models: Mapping[str, dspy.BaseLM] | None = None,
        settings: Mapping[str, Setting] | None = None,
        code_version: str = "",
        max_concurrency: int = 32,
        governor: Governor | None = None,
    ) -> None:
        current: Any = dspy.settings
        self._program = program
        self._models = dict(models or {})
        self._space = ConfigurationSpace.from_module(program, settings, self._models)
        self._lm = lm or current.lm
        for name, predictor in cast("list[Any]", program.named_predictors()):
            if predictor.lm is None and self._lm is None:
                raise NoLMError(
                    f"predictor {name!r} has no LM: give it one, pass lm=dspy.LM(…), or set one with "
                    "dspy.configure(lm=…)"
                )
        self._inherited = {**inherited_settings(), "lm": self._lm}
        self._max_concurrency = max_concurrency
        self._governor = governor
        self._runner: ProgramRunner | None = None
        self._runs: OrderedDict[str, _KnownRun] = OrderedDict()
        self._description = describe(program, self._space, self._models, code_version, max_concurrency)

    def describe(self, request: Any) -> Object:
        """Answer a Describe."""
        asked = _read(DescribeRequest, request)
        if asked.majors and MAJOR not in asked.majors:
            raise Refusal("failed_precondition", f"this student speaks version {MAJOR}, not {asked.majors}")
        return self._description.to_json()

    async def run(self, request: Any) -> Object:
        """Answer a Run. It continues without its caller, who may ask for it again with the same key."""
        asked = _read(RunRequest, request)
        if asked.major != MAJOR:
            raise Refusal("failed_precondition", f"this student speaks version {MAJOR}, not {asked.major}")
        task = self._task(asked)
        try:
            reply = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise Refusal("canceled", "the Run was cancelled") from None
            raise
        answer = reply.to_json()
        if len(orjson.dumps(answer)) > LARGEST_MESSAGE:
            failure = Failure(type="ReplyTooLarge", message=f"the reply has more than {LARGEST_MESSAGE:,} bytes")
            return reply.model_copy(
                update={"outcome": RunOutcome.PROGRAM_FAILURE, "prediction": None, "trace": [], "failure": failure}
            ).to_json()
        return answer

    async def cancel(self, request: Any) -> Object:
        """Answer a Cancel."""
        known = self._runs.get(_read(CancelRequest, request).key)
        found = known is not None and not known.task.done()
        if found and known is not None:
            known.task.cancel()
        return CancelReply(found=found).to_json()

    async def close(self) -> None:
        """Cancel the Runs in progress, and wait for their end."""
        tasks = [known.task for known in self._runs.values() if not known.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._runner is not None:
            await self._runner.threads.close()

    def _task(self, request: RunRequest) -> asyncio.Task[RunReply]:
        self._forget_old()
        digest = _digest(request)
        known = self._runs.get(request.key)
        if known is not None and not _is_to_be_made_again(known.task):
            if known.digest != digest:
                raise Refusal("already_exists", f"another request had the key {request.key!r}")
            return known.task
        if sum(not known.task.done() for known in self._runs.values()) >= self._max_concurrency:
            raise Refusal(
                "resource_exhausted",
                f"{self._max_concurrency} Runs are in progress, the maximum at a time",
                retry_after=BUSY_SECONDS,
            )
        if self._runner is None:
            self._runner = ProgramRunner(
                self._program, self._space, self._lm, self._models, self._inherited, self._governor
            )
        states = checked_states(request.predictors, self._space, self._models)
        task = asyncio.ensure_future(self._runner.run(request, states, self._description.code_version))
        task.add_done_callback(_seen)
        self._runs[request.key] = _KnownRun(digest, task, time.monotonic())
        return task

    def _forget_old(self) -> None:
        """Forget Runs that ended long ago, oldest first."""
        old = time.monotonic() - REPLIES_KEPT_SECONDS
        for key, known in list(self._runs.items()):
            if len(self._runs) <= MOST_REPLIES and known.started > old:
                return
            if known.task.done():
                del self._runs[key]


def _read(kind: type[M], request: Any) -> M:
    try:
        return kind.from_json(request)
    except (ValidationError, RecursionError) as error:
        first = error.errors(include_url=False, include_input=False)[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else "it is nested too deep"
        raise Refusal("invalid_argument", f"not a {kind.__name__}: {what}"[:1000]) from None


def _digest(request: RunRequest) -> bytes:
    """Return a digest of what to run, without the time left, which is shorter in a repetition."""
    fields = request.model_dump(mode="json", exclude={"timeout_seconds", "trace_context"})
    return hashlib.blake2b(orjson.dumps(to_json_value(fields), option=orjson.OPT_SORT_KEYS)).digest()


def _is_to_be_made_again(task: asyncio.Task[RunReply]) -> bool:
    """Return whether a Run has ended without a result that counts."""
    if not task.done():
        return False
    if task.cancelled() or task.exception() is not None:
        return True
    return task.result().outcome is RunOutcome.INFRASTRUCTURE_FAILURE


def _seen(task: asyncio.Task[Any]) -> None:
    """Retrieve a task's error, which asyncio would otherwise report as never retrieved if nobody awaits the Run."""
    if not task.cancelled():
        task.exception()
