"""Texts of a student besides its instructions: descriptions of fields, and strings that its modules hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import dspy

from simba_actors.errors import MisfitError
from simba_actors.programs.variables import DESCRIPTION, Variable
from simba_actors.search.rollout import JSON


def text_in(student: dspy.Module, predictors: Mapping[str, Any], variable: Variable) -> JSON:
    """Return the value of a text variable in the student.

    Raises:
        MisfitError: The student has no such field, attribute or key; the message names it.
    """
    predictor = predictors.get(variable.predictor)
    if predictor is not None:
        field = _field_of(predictor, variable)
        return predictor.signature.fields[field].json_schema_extra[DESCRIPTION]
    holder: Any = student
    for name in variable.name.split("."):
        holder = _held(holder, name)
    return cast("JSON", holder)


def set_text(program: dspy.Module, predictors: Mapping[str, Any], variable: Variable, value: str) -> None:
    """Set the value of a text variable in a program, which is a copy of the student."""
    predictor = predictors.get(variable.predictor)
    if predictor is not None:
        field = _field_of(predictor, variable)
        if predictor.signature.fields[field].json_schema_extra[DESCRIPTION] != value:
            predictor.signature = predictor.signature.with_updated_fields(field, desc=value)
    elif text_in(program, predictors, variable) != value:
        _set(program, variable.name.split("."), value)


def _field_of(predictor: Any, variable: Variable) -> str:
    """Return the name of the field that a variable of a predictor describes."""
    field, _, last = variable.attribute.rpartition(".")
    if last != DESCRIPTION or field not in predictor.signature.fields:
        fields = [f"{variable.predictor}.{name}.{DESCRIPTION}" for name in predictor.signature.fields]
        raise MisfitError(f"predictor {variable.predictor!r} has no text {variable.name!r}; its texts are {fields}")
    return field


def _held(holder: Any, name: str) -> Any:
    """Return the value that a module, a dict or a tool holds under a name."""
    kind = type(holder).__name__
    if isinstance(holder, dict):
        known = cast("dict[str, Any]", holder)
    elif isinstance(holder, (dspy.Module, dspy.Tool)):
        known = _texts_of_classes(type(holder)) | vars(holder)
    else:
        raise MisfitError(f"{name!r} can't be looked up in a {kind}: names lead through modules, dicts and tools only")
    if name not in known:
        raise MisfitError(f"{kind} has no {name!r}; it has {sorted(known, key=str)}")
    return known[name]


def _texts_of_classes(kind: type[Any]) -> dict[str, Any]:
    """Return the strings that a class and its bases hold. An instance has them until it sets its own."""
    return {
        name: value
        for each in reversed(kind.__mro__)
        for name, value in vars(each).items()
        if isinstance(value, str) and not name.startswith("__")
    }


def _set(holder: Any, names: Sequence[str], value: Any) -> Any:
    """Set the value that these names lead to, and return the holder, or a copy of it if it is a tool.

    The copies of a student that rollouts use have its own tools.
    """
    name, *rest = names
    if rest:
        value = _set(_held(holder, name), rest, value)
    if isinstance(holder, dspy.Tool):
        return holder.model_copy(update={name: value})
    if isinstance(holder, dict):
        cast("dict[str, Any]", holder)[name] = value
    else:
        setattr(holder, name, value)
    return cast("Any", holder)
