"""Describing a `dspy.Module` to optimizers in other processes, and making predictors from a description."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Mapping, Sequence
from typing import Any, cast

import dspy

from simba_actors.bridge.calls import StudentCallError
from simba_actors.bridge.connection import Connection
from simba_actors.bridge.messages import (
    MAJOR,
    MINOR,
    Description,
    FieldDescription,
    FloatRange,
    IntegerRange,
    Options,
    PredictorDescription,
    VariableDescription,
)
from simba_actors.errors import (
    ConfigError,
    StudentError,
    StudentUnreachableError,
)
from simba_actors.programs import Choice, Configuration, ConfigurationSpace, Float, Integer
from simba_actors.programs.entry_points import method_of
from simba_actors.programs.schemas import annotation_of, schema_of
from simba_actors.programs.variables import Setting, Text

DESCRIBE_SECONDS = 10.0
"""Seconds that `RemoteStudent` waits for each address to describe the student."""


def describe(
    program: dspy.Module,
    space: ConfigurationSpace,
    models: Mapping[str, Any],
    code_version: str,
    max_concurrency: int,
) -> Description:
    """Return the description of a program. `space` has its predictors and settings, `models` its other LMs."""
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
        case Choice(_, when) if when:
            raise ConfigError(
                f"setting {name!r} depends on {sorted(when)}, and the contract with a program in another process can't "
                "say that: leave `when` out"
            )
        case Choice(options):
            domains["choice"] = Options(options=list(options))
        case Text():
            raise ConfigError(
                f"settings has the text {name!r}, and a program in another process can't have its texts rewritten: "
                "leave it out"
            )
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
    """Return the inputs of the program, or an empty list if it takes any inputs or has optional ones."""
    if isinstance(program, dspy.Predict):
        return _fields(cast("Any", program).signature.input_fields)
    try:
        parameters = inspect.signature(method_of(program)).parameters.values()
    except (TypeError, ValueError):
        return []
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) or p.default is not p.empty for p in parameters):
        return []
    return [FieldDescription(name=parameter.name) for parameter in parameters]


def ask_for_description(connection: Connection) -> Description:
    """Return the description of a remote program. Blocks.

    Raises:
        StudentUnreachableError: No address answered.
        StudentError: It speaks another version of the protocol, or its description is invalid.
    """
    addresses = ", ".join(connection.addresses)
    try:
        description = connection.describe([MAJOR], DESCRIBE_SECONDS)
    except StudentCallError as error:
        raise StudentUnreachableError(
            f"no student describes itself at {addresses}: {error}. Start it, or correct the address or the token"
        ) from error
    if description.major != MAJOR:
        raise StudentError(
            f"the student at {addresses} speaks version {description.major} of the protocol, and this version of "
            f"simba_actors speaks {MAJOR}: update the older of the two"
        )
    problem = problem_of(description)
    if problem is not None:
        raise StudentError(f"the student at {addresses} describes itself in a way that can't be used: {problem}")
    return description


def problem_of(description: Description) -> str | None:
    """Return what is wrong with a description; None if nothing is."""
    names = [predictor.name for predictor in description.predictors]
    if len(set(names)) < len(names):
        return f"the names of predictors must be unique: {names}"
    fields = [field for predictor in description.predictors for field in (*predictor.inputs, *predictor.outputs)]
    odd = sorted({field.name for field in fields if not _is_field_name(field.name)})
    if odd:
        return f"the fields {odd} must have names of letters, digits and underscores that are not Python keywords"
    if any(field.name == "self" for field in description.inputs):
        return "an input can't be called 'self'"
    unknown = sorted({variable.predictor for variable in description.variables} - set(names))
    if unknown:
        return f"it describes variables of {unknown}, which are not its predictors"
    try:
        for variable in description.variables:
            setting_of(variable)
    except StudentError as error:
        return str(error)
    return None


def _is_field_name(name: str) -> bool:
    """Return whether a field of a `dspy.Signature` can have that name."""
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def setting_of(variable: VariableDescription) -> tuple[str, Setting]:
    """Return a described LM setting by its name in a space."""
    name = f"{variable.predictor}.{'lm' if variable.setting == 'model' else variable.setting}"
    try:
        if variable.float_ is not None:
            return name, Float(variable.float_.low, variable.float_.high)
        if variable.integer is not None:
            return name, Integer(variable.integer.low, variable.integer.high)
        return name, Choice(tuple(variable.choice.options if variable.choice else ()))
    except ConfigError as error:
        raise StudentError(f"the student's description of {name} is invalid: {error}") from error


def predictor_of(description: PredictorDescription, lm: dspy.BaseLM, settings: Mapping[str, Any]) -> dspy.Predict:
    """Return a described predictor, set to `settings`. Raise StudentError if DSPy can't have such a predictor."""
    make: Any = dspy.Signature
    fields: dict[str, tuple[Any, Any]] = {}
    kinds = cast("Sequence[Any]", (dspy.InputField, dspy.OutputField))
    for make_field, described in zip(kinds, (description.inputs, description.outputs), strict=True):
        for field in described:
            details = {"desc": field.description} if field.description else {}
            fields[field.name] = annotation_of(field.schema_), make_field(**details)
    try:
        predictor = dspy.Predict(make(fields, description.instructions), **settings)
    except Exception as error:
        raise StudentError(
            f"the student's predictor {description.name!r} with the fields {list(fields)} can't be used: {error}"
        ) from error
    predictor.demos = [dspy.Example(demo) for demo in description.demos]
    predictor.lm = lm
    return predictor
