"""The fingerprint of a run: what must stay the same between its lives, and what its default name is made from."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Sequence
from functools import partial
from types import MemberDescriptorType, ModuleType
from typing import Any, cast

import dspy
import orjson
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from simba_actors.config import OptimizerConfig
from simba_actors.programs import Configuration, ConfigurationSpace, to_json_value
from simba_actors.programs.values import contents
from simba_actors.search.settings import SearchSettings
from simba_actors.search.trajectory import JSON

SIMBA_SETTINGS = tuple(field.name for field in dataclasses.fields(SearchSettings) if field.name != "max_steps")
"""Settings that policies take over from the config. `max_steps` depends on the policy."""

SEARCH_SETTINGS = ("policy", "demo_input_field_maxlen", *SIMBA_SETTINGS)
"""Settings that shape the search. Concurrency, timeouts and budgets do not, and may change."""

FIELD_DETAILS = ("desc", "constraints")
"""What prompts tell of a field beside its name, its type, and whether it is an input or an output."""


@dataclasses.dataclass(frozen=True, slots=True)
class ExampleDigests:
    """Digests of the trainset and the valset.

    They take about a second for 50,000 examples, so they are made in a thread before the run is assembled.
    """

    trainset: str
    valset: str

    @classmethod
    def of(cls, config: OptimizerConfig) -> ExampleDigests:
        return cls(_digest_of_examples(config.trainset), _digest_of_examples(config.valset))


def fingerprint(
    config: OptimizerConfig,
    digests: ExampleDigests,
    configuration: Configuration,
    lms: dict[str, Any],
    space: ConfigurationSpace,
) -> dict[str, str]:
    """Return, by name, digests of the student and the trainset, names of the metric and the LMs, and the settings."""
    parts = {
        "student": f"{type(config.student).__qualname__} {_student_digest(config.student, configuration)[:16]}",
        "trainset": f"{len(config.trainset)} examples {digests.trainset[:16]}",
        "metric": _name(config.metric),
        "strategies": " ".join(strategy.name for strategy in config.chosen_strategies()),
    }
    parts.update({name: str(getattr(config, name)) for name in SEARCH_SETTINGS})
    parts["max_steps"] = str(config.steps)
    if config.valset:
        parts["valset"] = f"{len(config.valset)} examples {digests.valset[:16]}"
    if config.objectives is not None:
        parts["objectives"] = str(config.objectives)
    parts.update({f"{name} lm": str(lm.model) for name, lm in lms.items()})
    for name, lm in config.sampling_lms.items():
        parts[f"{name} lm"] += f" at temperature {lm.kwargs.get('temperature')}"
    parts.update({f"setting {name}": str(setting) for name, setting in space.settings.items()})
    parts.update({f"setting's {name} lm": str(lm.model) for name, lm in space.lms.items()})
    return parts


def default_run_id(config: OptimizerConfig, parts: dict[str, str]) -> str:
    """Return a name made of the student's class and a digest of everything that must stay the same."""
    return f"{type(config.student).__name__.lower()}-{_digest(dict(parts))[:10]}"


def _student_digest(student: dspy.Module, configuration: Configuration) -> str:
    """Return a digest of the student's configuration, and of its fields if the instructions do not list them all.

    If they do, it is the digest of earlier versions, which left the fields out, so that their runs can be resumed.
    """
    predictors = cast("list[tuple[str, Any]]", student.named_predictors())
    fields = {
        name: _fields(predictor.signature)
        for name, predictor in predictors
        if not _lists_all_fields(predictor.signature)
    }
    return _digest(to_json_value([configuration.values, fields])) if fields else configuration.digest


def _lists_all_fields(signature: Any) -> bool:
    """Return whether DSPy makes the same signature from the fields' names alone, with instructions that list them."""
    make: Any = dspy.Signature
    inputs, outputs = ", ".join(signature.input_fields), ", ".join(signature.output_fields)
    try:
        made = make(f"{inputs} -> {outputs}")
    except ValueError:  # There are no outputs.
        return False
    return signature.instructions == made.instructions and _fields(signature) == _fields(made)


def _fields(signature: Any) -> list[list[Any]]:
    """Return what prompts say about each field."""
    fields = cast("dict[str, Any]", signature.fields)
    return [
        [
            name,
            _schema(field.annotation),
            "input" if name in signature.input_fields else "output",
            *(field.json_schema_extra.get(key) for key in FIELD_DETAILS),
        ]
        for name, field in fields.items()
    ]


class _Schema(GenerateJsonSchema):
    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012


def _schema(annotation: Any) -> JSON:
    try:
        return TypeAdapter(annotation).json_schema(schema_generator=_Schema)
    except (PydanticUserError, NameError):  # It has none.
        return inspect.formatannotation(annotation)


def _name(metric: Any) -> str:
    """Return the metric's name, and a digest of what it was made with: a partial's or a constructor's arguments."""
    if isinstance(metric, partial):
        arguments = to_json_value([metric.args, metric.keywords])
        return f"partial of {_name(cast('Any', metric).func)} {_digest(arguments)[:16]}"
    name = getattr(metric, "__qualname__", type(metric).__qualname__)
    made_with = _made_with(getattr(metric, "__self__", metric))
    return f"{name} {_digest(to_json_value(made_with))[:16]}" if made_with else name


def _made_with(instance: Any) -> dict[str, Any]:
    """Return the attributes that are named like a parameter of the constructor.

    Others, such as counters and caches, may have another value each time the same run is started.
    """
    kind = cast("Any", type(instance))
    if inspect.isroutine(instance) or isinstance(instance, type | ModuleType):
        return {}
    names = [f"{mark}{name}" for name in (*_parameters(kind), *_parameters(kind.__init__)) for mark in ("", "_")]
    return {name: getattr(instance, name, None) for name in names if _holds(instance, name)}


def _parameters(call: Any) -> Sequence[str]:
    try:
        return tuple(inspect.signature(call).parameters)
    except (TypeError, ValueError):  # Some callables that are not written in Python have no signature.
        return ()


def _holds(instance: Any, name: str) -> bool:
    """Return whether the attribute is the instance's own, so that reading it runs no code."""
    kind = cast("Any", type(instance))
    slot = inspect.getattr_static(kind, name, None)
    return name in getattr(instance, "__dict__", {}) or isinstance(slot, MemberDescriptorType)


def _digest_of_examples(examples: Sequence[dspy.Example]) -> str:
    """Return the digest of a list with the fields and the names of the inputs of each example.

    It is made example by example: a C call that converts all of them at once would hold up the other threads.
    """
    digest = hashlib.sha256(b"[")
    for n, example in enumerate(examples):
        row: list[Any] = [dict(example), sorted(cast("list[str]", example.inputs().keys()))]
        listed = orjson.dumps(contents([row]), option=orjson.OPT_SORT_KEYS)
        digest.update(b"," * bool(n) + listed[1:-1])
    digest.update(b"]")
    return digest.hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
