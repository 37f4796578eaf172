"""The fingerprint of a run: the settings that must not change when it is continued.

The default run id is made from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from types import MemberDescriptorType, ModuleType
from typing import Any, cast

import dspy
import orjson

from simba_actors.config import OptimizerConfig
from simba_actors.programs import Configuration, ConfigurationSpace, to_json_value
from simba_actors.programs.schemas import schema_of
from simba_actors.programs.values import contents
from simba_actors.search.settings import SearchSettings

SIMBA_SETTINGS = tuple(field.name for field in dataclasses.fields(SearchSettings) if field.name != "max_steps")
"""Names of the settings that a policy copies from the config. `max_steps` is not one, as its default varies."""

SEARCH_SETTINGS = ("policy", "demo_input_field_maxlen", *SIMBA_SETTINGS)
"""Names of the settings that affect the search. Concurrency, timeouts and budgets do not, so they may change."""

FIELD_DETAILS = ("desc", "constraints")
"""Keys of a field's details that appear in prompts, besides its name, its type and whether it is an input."""


def fingerprint(
    config: OptimizerConfig,
    lms: Mapping[str, Any],
    space: ConfigurationSpace,
    student: Configuration,
) -> dict[str, str]:
    """Return the parts of the fingerprint by name. It takes about a second for 50,000 examples.

    They are digests of the student and the examples, names of the metric and the LMs, and the settings of the search.
    """
    parts = {
        "student": f"{type(config.student).__qualname__} {_student_digest(config.student, student)[:16]}",
        "trainset": f"{len(config.trainset)} examples {_digest_of_examples(config.trainset)[:16]}",
        "metric": _name(config.metric),
        "strategies": " ".join(strategy.name for strategy in config.chosen_strategies()),
    }
    parts.update({name: str(getattr(config, name)) for name in SEARCH_SETTINGS})
    parts["max_steps"] = str(config.steps)
    if config.valset:
        parts["valset"] = f"{len(config.valset)} examples {_digest_of_examples(config.valset)[:16]}"
    if config.objectives is not None:
        parts["objectives"] = str(config.objectives)
    parts.update({f"{name} lm": str(lm.model) for name, lm in lms.items()})
    for name, lm in config.sampling_lms.items():
        parts[f"{name} lm"] += f" at temperature {lm.kwargs.get('temperature')}"
    parts.update({f"setting {name}": str(setting) for name, setting in space.settings.items()})
    parts.update({f"setting's {name} lm": str(lm.model) for name, lm in space.lms.items()})
    return parts


def default_run_id(config: OptimizerConfig, parts: dict[str, str]) -> str:
    """Return a name made of the student's class and a digest of the fingerprint."""
    return f"{type(config.student).__name__.lower()}-{_digest(dict(parts))[:10]}"


def _student_digest(student: dspy.Module, configuration: Configuration) -> str:
    """Return a digest of the student's configuration and, unless the instructions list all fields, of its fields.

    If the instructions list them, the digest equals that of earlier versions, which left the fields out. So runs of
    those versions can be resumed.
    """
    predictors = cast("list[tuple[str, Any]]", student.named_predictors())
    fields = {
        name: _fields(predictor.signature)
        for name, predictor in predictors
        if not _lists_all_fields(predictor.signature)
    }
    return _digest(to_json_value([configuration.values, fields])) if fields else configuration.digest


def _lists_all_fields(signature: Any) -> bool:
    """Return whether DSPy would make the same signature, instructions included, from the field names alone."""
    try:
        made = _made_of(", ".join(signature.input_fields), ", ".join(signature.output_fields))
    except ValueError:  # The signature has no outputs.
        return False
    return (signature.instructions, _fields(signature)) == made


@lru_cache
def _made_of(inputs: str, outputs: str) -> tuple[str, list[list[Any]]]:
    """Return the instructions and fields of the signature that DSPy makes of field names.

    Cached, since that takes milliseconds, and many predictors of a student share their fields.
    """
    make: Any = dspy.Signature
    made = make(f"{inputs} -> {outputs}")
    return made.instructions, _fields(made)


def _fields(signature: Any) -> list[list[Any]]:
    """Return the facts about each field that appear in prompts."""
    fields = cast("dict[str, Any]", signature.fields)
    return [
        [
            name,
            schema_of(field.annotation),
            "input" if name in signature.input_fields else "output",
            *(field.json_schema_extra.get(key) for key in FIELD_DETAILS),
        ]
        for name, field in fields.items()
    ]


def _name(metric: Any) -> str:
    """Return the metric's name and a digest of the arguments of its `partial` or its constructor."""
    if isinstance(metric, partial):
        arguments = to_json_value([metric.args, metric.keywords])
        return f"partial of {_name(cast('Any', metric).func)} {_digest(arguments)[:16]}"
    name = getattr(metric, "__qualname__", type(metric).__qualname__)
    made_with = _made_with(getattr(metric, "__self__", metric))
    return f"{name} {_digest(to_json_value(made_with))[:16]}" if made_with else name


def _made_with(instance: Any) -> dict[str, Any]:
    """Return the attributes that have the name of a constructor parameter.

    Other attributes, such as counters and caches, may differ each time the run is started.
    """
    kind = cast("Any", type(instance))
    if inspect.isroutine(instance) or isinstance(instance, type | ModuleType):
        return {}
    names = [f"{mark}{name}" for name in (*_parameters(kind), *_parameters(kind.__init__)) for mark in ("", "_")]
    return {name: getattr(instance, name, None) for name in names if _holds(instance, name)}


def _parameters(call: Any) -> Sequence[str]:
    try:
        return tuple(inspect.signature(call).parameters)
    except (TypeError, ValueError):  # Some callables written in C have no signature.
        return ()


def _holds(instance: Any, name: str) -> bool:
    """Return whether the attribute is stored on the instance, so that reading it runs no code."""
    kind = cast("Any", type(instance))
    slot = inspect.getattr_static(kind, name, None)
    return name in getattr(instance, "__dict__", {}) or isinstance(slot, MemberDescriptorType)


def _digest_of_examples(examples: Sequence[dspy.Example]) -> str:
    """Return a digest of the fields and the input names of all examples.

    Examples are converted one by one: a single C call for all of them would block the other threads.
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
