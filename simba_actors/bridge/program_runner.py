"""Running a `dspy.Module` once for an optimizer in another process, with the values that the request asks for."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import dspy

from simba_actors.bridge.messages import (
    Failure,
    Model,
    Object,
    PredictorState,
    RunOutcome,
    RunReply,
    RunRequest,
    Step,
)
from simba_actors.dspy_compat.default_adapter import adapter_settings, honour_default_adapters
from simba_actors.dspy_compat.model_facts import remember_prices
from simba_actors.dspy_compat.settings import own_trace
from simba_actors.errors import CallRejectedError, InfrastructureError, LMAccessError, StudentError
from simba_actors.evaluation.binding import Programs, StudentCopy
from simba_actors.evaluation.executor import HISTORY_KEPT, raise_if_infrastructure, trace_steps
from simba_actors.lm.governed_lm import Twins, govern_while_alive, governed
from simba_actors.lm.governor import Caller, Governor, shared_governor
from simba_actors.lm.rollout_context import SETTING, Deadline, RolloutContext
from simba_actors.lm.usage import Meter
from simba_actors.programs import Configuration, ConfigurationSpace, revive
from simba_actors.programs.entry_points import runs_async
from simba_actors.programs.values import json_fields
from simba_actors.runtime.exception_isolation import isolated
from simba_actors.runtime.threads import Threads
from simba_actors.search.rollout import JSON, STUDENT_LM, ModelSpec
from simba_actors.transport.refusals import Refusal

MOST_SAMPLING_LMS = 1000
"""Maximum number of copies of LMs to keep, one for each temperature and rollout id."""


LONGEST_RUN = 3600.0
"""Maximum seconds of a Run if the optimizer sets no limit."""


@dataclass(frozen=True, slots=True)
class States:
    """The states of the predictors in a request."""

    configuration: Configuration
    models: Mapping[str, Model]


class ProgramRunner:
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
        predictors = cast("list[Any]", dspy.Module.predictors(program))
        own = next((predictor.lm for predictor in predictors if predictor.lm), None)
        self._pool = {STUDENT_LM: lm or own, **models}
        self._programs = Programs(StudentCopy.of(program), space, self._pool, self._governor, Caller(), self.threads)
        self._twins = Twins(self._governor, Caller(), self.threads)
        govern_while_alive(self._twins)
        weakref.finalize(self._twins, remember_prices())
        weakref.finalize(self._twins, honour_default_adapters())
        self._own = {name: predictor.lm for name, predictor in cast("list[Any]", program.named_predictors())}
        self._runs_async = runs_async(program)
        self._types = _input_types(program)
        self._sampling: dict[tuple[int, Model], Any] = {}
        self._settings = {
            **inherited,
            "lm": self._programs.default_lm,
            **adapter_settings(inherited.get("adapter")),
            "max_history_size": min(cast("int", inherited["max_history_size"]), HISTORY_KEPT),
            "disable_history": False,  # Usage is read from it.
        }

    async def run(self, request: RunRequest, states: States, code_version: str) -> RunReply:
        """Run the program and return the reply. Raise Refusal if the request's time ends before."""
        started = time.perf_counter()
        meter, trace = Meter(), cast("list[Any]", [])
        program = await self._programs.bound(states.configuration, ModelSpec())
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
                with dspy.context(**{**self._settings, **own_trace(trace), SETTING: rollout}), rollout:
                    async with deadline:
                        prediction = await isolated(self._call(program.module, self._inputs(request.inputs)))
                        answer = reply(RunOutcome.SUCCEEDED, prediction=json_fields(prediction))
        except Exception as error:  # noqa: BLE001 - the program's failure, unless the infrastructure is behind it
            answer = self._failed(rollout.stopped_by or error, reply)
        finally:
            rollout.end()
        if rollout.stopped_by is not None:
            # The program continued without the LM's answer, so its result says nothing about the configuration.
            answer = self._failed(rollout.stopped_by, reply)
        if answer is None:
            raise Refusal("deadline_exceeded", f"the Run did not end in {request.timeout_seconds:g} s")
        return answer

    async def _call(self, module: Any, inputs: Mapping[str, Any]) -> Any:
        if self._runs_async:
            return await module.acall(**inputs)
        return await self.threads.run(lambda: module(**inputs))

    def _inputs(self, inputs: Object) -> dict[str, Any]:
        """Return the inputs, each converted to the type of the predictors' field of the same name."""
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
                    rejected=isinstance(failure, CallRejectedError),
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


def checked_states(
    predictors: Mapping[str, PredictorState], space: ConfigurationSpace, models: Mapping[str, Any]
) -> States:
    """Return the states of a request. Raise Refusal if they don't fit the program."""
    values: dict[str, JSON] = {}
    for variable in space.variables:
        state = predictors.get(variable.predictor)
        if state is None:
            raise Refusal("invalid_argument", f"the request has no state for the predictor {variable.predictor!r}")
        if state.model.name and state.model.name not in models:
            raise Refusal("invalid_argument", f"there is no model {state.model.name!r}; there are {sorted(models)}")
        match variable.attribute:
            case "instructions":
                values[variable.name] = state.instructions
            case "demos":
                values[variable.name] = cast("JSON", state.demos)
            case "lm":
                values[variable.name] = None  # The state's model decides it.
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
    return States(configuration, {name: state.model for name, state in predictors.items()})


def _input_types(program: dspy.Module) -> dict[str, Any]:
    """Return the types of the predictors' inputs by name, where they agree."""
    types: dict[str, Any] = {}
    for predictor in cast("list[Any]", dspy.Module.predictors(program)):
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
