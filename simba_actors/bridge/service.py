"""A `dspy.Module` as a student for optimizers elsewhere: Describe, Run and Cancel, whichever door they come through."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import sys
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import dspy
import orjson
from pydantic import ValidationError

from simba_actors.bridge.messages import (
    LARGEST_MESSAGE,
    MAJOR,
    MINOR,
    CancelReply,
    CancelRequest,
    DescribeRequest,
    Description,
    Failure,
    FieldDescription,
    FloatRange,
    IntegerRange,
    Message,
    Model,
    Object,
    Options,
    PredictorDescription,
    PredictorState,
    RunOutcome,
    RunReply,
    RunRequest,
    Step,
    VariableDescription,
)
from simba_actors.dspy_compat.lm_calls import route_lm_calls
from simba_actors.dspy_compat.prompt_cache import with_prompt_cache
from simba_actors.dspy_compat.settings import inherited_settings, own_trace
from simba_actors.errors import InfrastructureError, LMAccessError, NoLMError, StudentError
from simba_actors.evaluation.binding import Programs
from simba_actors.evaluation.executor import HISTORY_KEPT, raise_if_infrastructure, trace_steps
from simba_actors.lm.governed_lm import Twins, governed, routed
from simba_actors.lm.governor import Caller, Governor, shared_governor
from simba_actors.lm.rollout_context import SETTING, Deadline, RolloutContext
from simba_actors.lm.usage import Meter
from simba_actors.programs import Choice, Configuration, ConfigurationSpace, Float, Integer, revive
from simba_actors.programs.entry_points import method_of, runs_async
from simba_actors.programs.schemas import schema_of
from simba_actors.programs.values import json_fields, to_json_value
from simba_actors.programs.variables import Setting
from simba_actors.runtime.exception_isolation import isolated
from simba_actors.runtime.threads import Threads
from simba_actors.search.rollout import JSON, STUDENT_LM, ModelSpec
from simba_actors.transport.refusals import Refusal

M = TypeVar("M", bound=Message)

REPLIES_KEPT_SECONDS = 600.0
"""Seconds for which the reply of a Run is remembered by its key."""

MOST_REPLIES = 2_000
"""Replies that are remembered."""

MOST_SAMPLING_LMS = 1000
"""Copies of LMs, by temperature and rollout id, that are kept."""

LONGEST_RUN = 3600.0
"""Seconds that a Run may take, if the optimizer sets no limit."""

BUSY_SECONDS = 0.5
"""Seconds after which an optimizer that sends too many Runs may try again."""


@dataclass(frozen=True, slots=True)
class _KnownRun:
    """A Run under way, or one that has ended not long ago."""

    digest: bytes
    """Of the request, to tell a repetition from another request with the same key."""
    task: asyncio.Task[RunReply]
    started: float


class StudentService:
    """Serves a program to optimizers in other processes.

        service = StudentService(program, models={"large": dspy.LM(…)})
        app = student_app(service)  # an ASGI application; or use `simba-actors student module:service`

    It belongs to the event loop that its first Run is made in, and runs under the `dspy.settings` that are current
    where it is made.

    Args:
        program: Never changed. Each Run gets a copy.
        lm: LM of the predictors that have none of their own; by default `dspy.settings.lm`.
        models: Other LMs by name, which an optimizer may use to sample, or choose from.
        settings: LM settings that an optimizer may choose, as in `ConfigurationSpace.from_module`.
        code_version: Version of the program's code, such as a commit.
        max_concurrency: Runs at a time. An optimizer that sends more gets a refusal and sends fewer.
        governor: Sends the LM calls.

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
        self._runner: _Runner | None = None
        self._runs: OrderedDict[str, _KnownRun] = OrderedDict()
        self._description = _describe(program, self._space, self._models, code_version, max_concurrency)

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
        """Cancel the Runs that are under way, and wait for their end."""
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
                f"{self._max_concurrency} Runs are under way, which is the most at a time",
                retry_after=BUSY_SECONDS,
            )
        if self._runner is None:
            self._runner = _Runner(self._program, self._space, self._lm, self._models, self._inherited, self._governor)
        states = _checked(request.predictors, self._space, self._models)
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


@dataclass(frozen=True, slots=True)
class _States:
    """What a request says about the predictors."""

    configuration: Configuration
    models: Mapping[str, Model]


class _Runner:
    """Runs the program, on the event loop that it is made in."""

    def __init__(
        self,
        program: dspy.Module,
        space: ConfigurationSpace,
        lm: Any,
        models: Mapping[str, Any],
        inherited: Mapping[str, Any],
        governor: Governor | None,
    ) -> None:
        self.threads = Threads()
        self._governor = governor or shared_governor()
        own = next((predictor.lm for predictor in cast("list[Any]", program.predictors()) if predictor.lm), None)
        self._pool = {STUDENT_LM: lm or own, **models}
        self._programs = Programs(program, space, self._pool, self._governor, Caller(), self.threads)
        self._twins = Twins(self._governor, Caller(), self.threads)
        weakref.finalize(self._twins, route_lm_calls(routed))
        self._own = {name: predictor.lm for name, predictor in cast("list[Any]", program.named_predictors())}
        self._runs_async = runs_async(program)
        self._types = _input_types(program)
        self._sampling: dict[tuple[int, Model], Any] = {}
        self._settings = {
            **inherited,
            "lm": self._programs.default_lm,
            "adapter": with_prompt_cache(inherited.get("adapter") or dspy.ChatAdapter()),
            "max_history_size": min(cast("int", inherited["max_history_size"]), HISTORY_KEPT),
            "disable_history": False,  # Usage is read from it.
        }

    async def run(self, request: RunRequest, states: _States, code_version: str) -> RunReply:
        """Return the reply to a request. Raise Refusal if its time is over before it has one."""
        started = time.perf_counter()
        meter, trace = Meter(), cast("list[Any]", [])
        program = self._programs.bound(states.configuration, ModelSpec())
        deadline = Deadline(min(request.timeout_seconds or LONGEST_RUN, LONGEST_RUN))
        rollout = RolloutContext(meter, deadline, keeps_history=False, govern=self._twins)

        def reply(outcome: RunOutcome, **fields: Any) -> RunReply:
            return RunReply(
                key=request.key,
                outcome=outcome,
                trace=[
                    Step(predictor=step.predictor, inputs=dict(step.inputs), outputs=dict(step.outputs))
                    for step in trace_steps(trace, program.names)
                ],
                usage=_usage(meter),
                seconds=time.perf_counter() - started,
                code_version=code_version,
                cut_off=rollout.cut_off,
                **fields,
            )

        answer: RunReply | None = None
        try:
            with _traced(request.trace_context):
                self._choose_lms(program.module, states.models)
                with dspy.context(**{**self._settings, **own_trace(trace), SETTING: rollout}):
                    async with deadline:
                        prediction = await isolated(self._call(program.module, self._inputs(request.inputs)))
                        answer = reply(RunOutcome.SUCCEEDED, prediction=json_fields(prediction))
        except Exception as error:  # noqa: BLE001 - the program's failure, unless the infrastructure is behind it
            answer = self._failed(rollout.stopped_by or error, reply)
        finally:
            rollout.end()
        if rollout.stopped_by is not None:
            # The program went on without the LM's answer, so what came of it is not evidence.
            answer = self._failed(rollout.stopped_by, reply)
        if answer is None:
            raise Refusal("deadline_exceeded", f"the Run did not end in {request.timeout_seconds:g} s")
        return answer

    async def _call(self, module: Any, inputs: Mapping[str, Any]) -> Any:
        if self._runs_async:
            return await module.acall(**inputs)
        return await self.threads.run(lambda: module(**inputs))

    def _inputs(self, inputs: Object) -> dict[str, Any]:
        """Return inputs with values of the types that the predictors give fields of the same name."""
        return {name: revive(value, self._types.get(name, Any)) for name, value in inputs.items()}

    def _failed(self, error: Exception, reply: Callable[..., RunReply]) -> RunReply:
        """Return the reply for an error, which is the program's unless the infrastructure is behind it."""
        secrets = self._governor.secrets
        try:
            raise_if_infrastructure(error, secrets)
        except InfrastructureError as failure:
            return reply(
                RunOutcome.INFRASTRUCTURE_FAILURE,
                failure=Failure(
                    type=type(failure).__name__.lstrip("_"),
                    message=secrets.hide(str(failure)),
                    permanent=isinstance(failure, LMAccessError),
                ),
            )
        kind, _, message = secrets.describe(error).partition(": ")
        return reply(RunOutcome.PROGRAM_FAILURE, failure=Failure(type=kind, message=message))

    def _choose_lms(self, module: Any, models: Mapping[str, Model]) -> None:
        """Give each predictor the LM that the request asks for."""
        for name, predictor in module.named_predictors():
            model = models.get(name, Model())
            if predictor.config.get("temperature", model.temperature) == 0:
                model = model.model_copy(update={"rollout_id": None})  # DSPy warns of one at temperature 0.
            base = self._pool[model.name] if model.name else self._own.get(name) or self._pool[STUDENT_LM]
            if model != Model():
                predictor.lm = self._sampled(base, model)

    def _sampled(self, lm: Any, model: Model) -> Any:
        key = id(lm), model
        if key not in self._sampling:
            if len(self._sampling) >= MOST_SAMPLING_LMS:
                self._sampling.clear()
            changes: dict[str, Any] = model.model_dump(include={"rollout_id", "temperature"}, exclude_none=True)
            self._sampling[key] = governed(lm, self._governor, threads=self.threads, **changes)
        return self._sampling[key]


def _read(kind: type[M], request: Any) -> M:
    try:
        return kind.from_json(request)
    except (ValidationError, RecursionError) as error:
        first = error.errors(include_url=False, include_input=False)[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else "it is nested too deep"
        raise Refusal("invalid_argument", f"not a {kind.__name__}: {what}"[:1000]) from None


def _checked(predictors: Mapping[str, PredictorState], space: ConfigurationSpace, models: Mapping[str, Any]) -> _States:
    """Return the states of a request. Raise Refusal if they don't fit the program."""
    values: dict[str, JSON] = {}
    for variable in space.variables:
        state = predictors.get(variable.predictor)
        if state is None:
            raise Refusal("invalid_argument", f"the request says nothing about the predictor {variable.predictor!r}")
        if state.model.name and state.model.name not in models:
            raise Refusal("invalid_argument", f"there is no model {state.model.name!r}; there are {sorted(models)}")
        match variable.attribute:
            case "instructions":
                values[variable.name] = state.instructions
            case "demos":
                values[variable.name] = cast("JSON", state.demos)
            case "lm":
                values[variable.name] = None  # Said by the state's model.
            case setting:
                values[variable.name] = state.settings.get(setting)
    unknown = sorted(predictors.keys() - space.predictors)
    if unknown:
        raise Refusal("invalid_argument", f"there are no predictors {unknown}; there are {sorted(space.predictors)}")
    for name, state in predictors.items():
        settable = {setting.rpartition(".")[2] for setting in space.settings if setting.rpartition(".")[0] == name}
        if not state.settings.keys() <= settable:
            raise Refusal(
                "invalid_argument", f"{name} has the settings {sorted(settable)}, not {sorted(state.settings)}"
            )
    configuration = Configuration(values)
    try:
        space.validate(configuration)
    except StudentError as error:
        raise Refusal("invalid_argument", str(error)) from None
    return _States(configuration, {name: state.model for name, state in predictors.items()})


def _describe(
    program: dspy.Module,
    space: ConfigurationSpace,
    models: Mapping[str, Any],
    code_version: str,
    max_concurrency: int,
) -> Description:
    configuration = space.extract(program)
    named = dict(cast("list[tuple[str, Any]]", program.named_predictors()))
    return Description(
        major=MAJOR,
        minor=MINOR,
        name=type(program).__name__,
        code_version=code_version,
        summary=_summary(type(program)),
        inputs=_inputs(program),
        predictors=[
            PredictorDescription(
                name=name,
                instructions=configuration.instructions(name),
                inputs=_fields(named[name].signature.input_fields),
                outputs=_fields(named[name].signature.output_fields),
                demos=[dict(demo) for demo in configuration.demos(name)],
            )
            for name in space.predictors
        ],
        variables=[_variable(name, setting, configuration) for name, setting in space.settings.items()],
        models=sorted(models),
        max_concurrency=max_concurrency,
    )


def _summary(kind: type[dspy.Module]) -> str:
    """Return the docstring of the user's class. Those of DSPy's own classes are about how to use them."""
    return "" if kind.__module__.partition(".")[0] == "dspy" else inspect.cleandoc(kind.__doc__ or "")


def _variable(name: str, setting: Setting, configuration: Configuration) -> VariableDescription:
    predictor, _, attribute = name.rpartition(".")
    domains: dict[str, Any] = {}
    match setting:
        case Float(low, high):
            domains["float_"] = FloatRange(low=low, high=high)
        case Integer(low, high):
            domains["integer"] = IntegerRange(low=low, high=high)
        case Choice(options):
            domains["choice"] = Options(options=list(options))
    return VariableDescription(
        predictor=predictor,
        setting="model" if attribute == "lm" else attribute,
        default=configuration.values[name],
        **domains,
    )


def _fields(fields: Mapping[str, Any]) -> list[FieldDescription]:
    return [
        FieldDescription(
            name=name,
            schema=schema if isinstance(schema := schema_of(field.annotation), dict) else {},
            description=_description_of(name, field),
        )
        for name, field in fields.items()
    ]


def _description_of(name: str, field: Any) -> str:
    """Return a field's description, unless it is the one that DSPy makes up."""
    extra: Mapping[str, Any] = field.json_schema_extra or {}
    text = str(extra.get("desc") or "")
    return "" if text == f"${{{name}}}" else text


def _inputs(program: dspy.Module) -> list[FieldDescription]:
    """Return the inputs of the program; nothing if it takes any, or some that may be left out."""
    if isinstance(program, dspy.Predict):
        return _fields(cast("Any", program).signature.input_fields)
    try:
        parameters = inspect.signature(method_of(program)).parameters.values()
    except (TypeError, ValueError):
        return []
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) or p.default is not p.empty for p in parameters):
        return []
    return [FieldDescription(name=parameter.name) for parameter in parameters]


def _input_types(program: dspy.Module) -> dict[str, Any]:
    """Return the types of the predictors' inputs by name, where they agree."""
    types: dict[str, Any] = {}
    for predictor in cast("list[Any]", program.predictors()):
        for name, field in predictor.signature.input_fields.items():
            types[name] = field.annotation if types.get(name, field.annotation) == field.annotation else Any
    return types


def _usage(meter: Meter) -> Object:
    total = meter.total
    usage = {
        "calls": total.calls,
        "promptTokens": total.prompt_tokens,
        "completionTokens": total.completion_tokens,
        "cost": total.cost,
    }
    return {name: value for name, value in usage.items() if value is not None}


def _digest(request: RunRequest) -> bytes:
    """Return a digest of what is to be run. A repetition may have less time left."""
    fields = request.model_dump(mode="json", exclude={"timeout_seconds", "trace_context"})
    return hashlib.blake2b(orjson.dumps(to_json_value(fields), option=orjson.OPT_SORT_KEYS)).digest()


def _is_to_be_made_again(task: asyncio.Task[RunReply]) -> bool:
    """Return whether a Run has ended without evidence."""
    if not task.done():
        return False
    if task.cancelled() or task.exception() is not None:
        return True
    return task.result().outcome is RunOutcome.INFRASTRUCTURE_FAILURE


def _seen(task: asyncio.Task[Any]) -> None:
    """Take note of a task's error, which asyncio would report as lost if nobody awaits the Run any more."""
    if not task.cancelled():
        task.exception()


@contextmanager
def _traced(trace_context: Mapping[str, str]) -> Generator[None]:
    """Make the optimizer's span the parent of those in the block, if this process uses OpenTelemetry."""
    if "opentelemetry" not in sys.modules or not trace_context:
        yield
        return
    from opentelemetry import context
    from opentelemetry.propagate import extract

    token = context.attach(extract(dict(trace_context)))
    try:
        yield
    finally:
        context.detach(token)
