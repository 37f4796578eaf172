"""A student that runs in another process, as a `dspy.Module`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any, cast

import dspy

from simba_actors.bridge.connection import Connection, run_key
from simba_actors.bridge.descriptions import ask_for_description, predictor_of, setting_of
from simba_actors.bridge.messages import (
    MAJOR,
    Description,
    Model,
    Object,
    PredictorState,
    RunOutcome,
    RunReply,
    RunRequest,
)
from simba_actors.bridge.remote_lm import RemoteLM
from simba_actors.dspy_compat.settings import add_to_trace
from simba_actors.errors import ConfigError, StudentError
from simba_actors.lm.rollout_context import current_rollout
from simba_actors.programs import Choice, ConfigurationSpace
from simba_actors.programs.schemas import fitted
from simba_actors.programs.values import json_fields, to_json_value
from simba_actors.programs.variables import Setting
from simba_actors.runtime.logs import get_logger
from simba_actors.transport.security import TLS

logger = get_logger(__name__)


SHADOWED = ("description", "model", "space")
"""Attributes of `RemoteStudent` that it does not use itself, so that predictors may have these names."""


class RemoteStudent(dspy.Module):
    """A program in another process, possibly in another language, as a student.

        student = RemoteStudent("http://127.0.0.1:7000")
        config = OptimizerConfig(student=student, metric=metric, trainset=trainset, store="simba.db", prompt_model=lm)

    It has the predictors that the program describes, so configurations, diffs and exports work as for any other
    student. Calling it sends their state along and runs the program there, with the program's own LM. The metric is
    called here.

    The constructor asks the program to describe itself, which blocks for a moment. In an async function, use
    `await asyncio.to_thread(RemoteStudent, "http://…")`.

    Args:
        addresses: One address or several, which share the work. `http://`, `https://`, or, with the extra `grpc`,
            `grpc://` and `grpcs://` (TLS).
        token: Sent with each call; by default the value of the environment variable `SIMBA_STUDENT_TOKEN`, if it is
            set. Off loopback it needs TLS.
        tls: Certificates for TLS.
        timeout: Seconds that a Run may take outside of an optimizer. Within one, `rollout_timeout` counts.

    Raises:
        ConfigError: An address is not valid.
        StudentUnreachableError: No address answered.
        StudentError: The program speaks another version of the protocol, or its description is invalid.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        token: str | None = None,
        tls: TLS | None = None,
        timeout: float = 300.0,
    ) -> None:
        super().__init__()
        listed = [addresses] if isinstance(addresses, str) else list(addresses)
        self._connection = Connection(listed, token=token, tls=tls, timeout=timeout)
        self._description = ask_for_description(self._connection)
        self._steps = _Steps(self._description)
        lm = RemoteLM(self._connection, self._description, "")
        for predictor in self._description.predictors:
            name = predictor.name
            if name in vars(self) or name.startswith("_") or (hasattr(type(self), name) and name not in SHADOWED):
                raise StudentError(
                    f"{self._connection.addresses[0]}: the predictor's name {name!r} has another meaning in "
                    "dspy.Module, or occurs twice: rename it in the program"
                )
            # Names such as "chain.predict" and "steps[0]" are those of the program, and DSPy takes them as they are.
            vars(self)[name] = predictor_of(predictor, lm, self._settings_of(name))

    @property
    def description(self) -> Description:
        """The program's description of itself."""
        return self._description

    @property
    def space(self) -> ConfigurationSpace:
        """The predictors with the LM settings that the program lets an optimizer choose.

        OptimizerConfig(student=student, space=student.space, …)
        """
        settings: dict[str, Setting] = {}
        lms: dict[str, Any] = {}
        for variable in self._description.variables:
            name, setting = setting_of(variable)
            settings[name] = setting
            if variable.setting == "model" and isinstance(setting, Choice):
                lms |= {str(option): self._lm_called(str(option)) for option in setting.options}
        return ConfigurationSpace.from_module(self, settings=settings, lms=lms)

    def model(self, name: str) -> RemoteLM:
        """Return the program's LM called `name`, for `teacher_lm` or `sampling_lms`. "" is its own.

        Raises:
            ConfigError: The program has no LM of that name.
        """
        return self._lm_called(name)

    def misfit_of(self, names: Set[str]) -> str | None:
        """Return why the program can't be run with inputs of these `names`; None if it can."""
        known = {field.name for field in self._description.inputs}
        if not known or known == names:
            return None
        return f"its inputs are {sorted(known)}, but the example has {sorted(names)}"

    def shown_to_rule_writer(self) -> str:
        """Return the text that the LM that writes rules reads in place of the code."""
        return f"{self._description.summary}\n\n{self!r}".strip()

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Return the predictors' state without their LMs, so that the program itself can load it."""
        state = cast("dict[str, dict[str, Any]]", super().dump_state(json_mode))
        return {name: {**each, "lm": None} for name, each in state.items()}

    def load_state(self, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> None:
        """Load the predictors' state, but keep their LMs."""
        lms = {name: predictor.lm for name, predictor in self._predictors().items()}
        super().load_state(state, allow_unsafe_lm_state=allow_unsafe_lm_state)
        for name, predictor in self._predictors().items():
            predictor.lm = lms[name]

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Run the program with these inputs, and wait for it in this thread."""
        request = self._request(inputs)
        return self._result(self._lm()(request))

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Run the program with these inputs."""
        request = self._request(inputs)
        return self._result(await self._lm().acall(request))

    def _lm_called(self, name: str) -> RemoteLM:
        known = self._description.models
        if name and name not in known:
            raise ConfigError(f"{self._description.name} has no LM called {name!r}; it has {known}")
        return RemoteLM(self._connection, self._description, name)

    def _lm(self) -> Any:
        """Return the LM whose calls are Runs. In an optimizer it is a governed copy."""
        return next(iter(self._predictors().values())).lm

    def _request(self, inputs: Mapping[str, Any]) -> RunRequest:
        return RunRequest(
            major=MAJOR,
            key=run_key(),
            predictors={name: _state(name, predictor) for name, predictor in self._predictors().items()},
            inputs=json_fields(inputs),
            trace_context=_trace_context(),
        )

    def _result(self, reply: RunReply) -> dspy.Prediction:
        """Put the reply's steps into DSPy's trace, and return the prediction or raise the program's error."""
        add_to_trace(self._steps.of(reply, self._predictors()))
        rollout = current_rollout()
        if rollout is not None and reply.cut_off:
            rollout.cut_off = True
        if reply.outcome is RunOutcome.PROGRAM_FAILURE and reply.failure is not None:
            raise _error_class(reply.failure.type)(reply.failure.message)
        return dspy.Prediction(self._steps.fitted_outputs(reply.prediction or {}))

    def _predictors(self) -> dict[str, Any]:
        return {predictor.name: vars(self)[predictor.name] for predictor in self._description.predictors}

    def _settings_of(self, predictor: str) -> dict[str, Any]:
        return {
            variable.setting: variable.default
            for variable in self._description.variables
            if variable.predictor == predictor and variable.setting != "model" and variable.default is not None
        }


class RemoteProgramError(Exception):
    """A remote program failed with an error. The class that is raised has the name of that error."""


@lru_cache(maxsize=64)
def _error_class(name: str) -> type[RemoteProgramError]:
    valid = re.fullmatch(r"[A-Za-z_][\w.]{0,79}", name)
    return type(name, (RemoteProgramError,), {}) if valid else RemoteProgramError


class _Steps:
    """Converts the steps and outputs of replies to the types that the description gives."""

    def __init__(self, description: Description) -> None:
        self._program = description.name
        self._code_version = description.code_version
        self._schemas = {
            predictor.name: {field.name: field.schema_ for field in (*predictor.inputs, *predictor.outputs)}
            for predictor in description.predictors
        }
        self._outputs = {
            field.name: field.schema_ for predictor in description.predictors for field in predictor.outputs
        }
        self._warned: set[str] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Steps:
        return self

    def of(self, reply: RunReply, predictors: Mapping[str, Any]) -> list[tuple[Any, Object, dspy.Prediction]]:
        """Return entries for DSPy's trace. Steps of predictors that were never described are left out."""
        if reply.code_version != self._code_version:
            self._warn(
                f"{self._program} changed during the run, from version {self._code_version!r:.80} to "
                f"{reply.code_version!r:.80}: scores of the two may differ. Start another run to compare them"
            )
        unknown = {step.predictor for step in reply.trace} - predictors.keys()
        if unknown:
            self._warn(
                f"{self._program} reports steps of {sorted(unknown)!r:.200}, which it has not described: they are left "
                "out, and can't become demos. Its trace must use the names of its predictors"
            )
        return [
            (
                predictors[step.predictor],
                fitted(step.inputs, self._schemas[step.predictor]),
                dspy.Prediction(fitted(step.outputs, self._schemas[step.predictor])),
            )
            for step in reply.trace
            if step.predictor in predictors
        ]

    def fitted_outputs(self, prediction: Object) -> Object:
        return fitted(prediction, self._outputs)

    def _warn(self, message: str) -> None:
        if message not in self._warned and len(self._warned) < 100:
            self._warned.add(message)
            logger.warning("%s", message)


def _state(name: str, predictor: Any) -> PredictorState:
    """Return the instructions, demos, settings and LM of a predictor."""
    lm: Any = predictor.lm
    if not isinstance(lm, RemoteLM):
        raise ConfigError(
            f"predictor {name!r} of a remote student can't use {lm!r:.80}: its LM is where the program runs. Use "
            "student.model(name), or leave teacher_lm, sampling_lms and the like out"
        )
    demos = cast("Iterable[Any]", predictor.demos)
    return PredictorState(
        instructions=predictor.signature.instructions,
        demos=[json_fields(demo) for demo in demos],
        settings={key: to_json_value(value) for key, value in predictor.config.items() if value is not None},
        model=Model(name=lm.name, temperature=lm.kwargs.get("temperature"), rollout_id=lm.kwargs.get("rollout_id")),
    )


def _trace_context() -> dict[str, str]:
    """Return the current span as W3C trace context, if the application uses OpenTelemetry."""
    if "opentelemetry" not in sys.modules:
        return {}
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier
