"""Values of DSPy fields as plain JSON, and back to the types that a signature gives them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, cast

import dspy
import numpy as np
import orjson
import pydantic

from simba_actors.search.trajectory import JSON

LARGEST_INTEGER = 2**63 - 1
"""Beyond it, JSON readers differ."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""Where an object is, as the texts of objects tell it: another place in every process."""


def to_json_value(value: Any) -> JSON:
    """`value` as JSON, whatever it is: what has no JSON form of its own becomes text.

    Pydantic models, dataclasses and mappings become objects, sequences and sets lists, numpy numbers and arrays
    Python's, dates ISO 8601; NaN and infinities become text. No text tells the address of an object.
    """
    return _convert(value, _Place())


def contents(value: Any) -> JSON:
    """As `to_json_value`, with the attributes of objects that have no text of their own. Not to be stored or shown.

    Equal in every process for what was made in the same way; such an object within another is told by its type alone.
    """
    return _convert(value, _Place(open_up=True))


class _Place(NamedTuple):
    """Where a conversion is: the ids of what is around, and whether it opens up what has no text of its own."""

    around: tuple[int, ...] = ()
    open_up: bool = False


def _convert(value: Any, place: _Place) -> JSON:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _convert(value.value, place)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int(value) if -LARGEST_INTEGER <= value <= LARGEST_INTEGER else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if id(value) in place.around:
        return f"<{type(value).__name__} within itself>"
    return _compound(value, place._replace(around=(*place.around, id(value))))


def _compound(value: Any, place: _Place) -> JSON:
    match value:
        case pydantic.BaseModel():
            return _of_model(value, place)
        case dspy.Example():
            return _of_items(cast("Iterable[tuple[Any, Any]]", value.items()), place)
        case Mapping():
            return _of_items(cast("Mapping[Any, Any]", value).items(), place)
        case np.generic() | np.ndarray():
            return _convert(cast("Any", value).tolist(), place)
        case set() | frozenset():
            return [_convert(item, place) for item in sorted(cast("set[Any]", value), key=repr)]
        case list() | tuple():
            return [_convert(item, place) for item in cast("list[Any]", value)]
        case dt.date() | dt.time():
            return value.isoformat()
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "backslashreplace")
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _of_items(((f.name, getattr(value, f.name)) for f in dataclasses.fields(value)), place)
        case _ if place.open_up and type(value).__str__ is object.__str__ and type(value).__repr__ is object.__repr__:
            attributes = cast("dict[str, Any]", getattr(value, "__dict__", {}))
            return {type(value).__qualname__: _of_items(attributes.items(), place._replace(open_up=False))}
        case _:
            return _text(_ADDRESS.sub("", str(value)))


def _of_model(model: pydantic.BaseModel, place: _Place) -> JSON:
    try:
        dumped = model.model_dump(mode="json")
    except (TypeError, ValueError):  # A field that pydantic can't serialize: take the fields one by one.
        return _of_items(((name, getattr(model, name)) for name in type(model).model_fields), place)
    return _convert(dumped, place)


def _of_items(items: Iterable[tuple[Any, Any]], place: _Place) -> JSON:
    return {_text(str(key)): _convert(item, place) for key, item in items}


def _text(value: str) -> str:
    """`value` without what can't be written as UTF-8 (half of a surrogate pair)."""
    if value.isascii():
        return str(value)
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def json_problem(value: object) -> str | None:
    """Where in `value` something is no plain JSON, and what: "[0].question is a set"; None where all is."""
    match value:
        case None | bool():
            return None
        case str():
            return None if _text(value) == value else " is text with half of a surrogate pair"
        case int():
            return None if abs(value) <= LARGEST_INTEGER else f" is {value}, more than 64 bits hold"
        case float():
            return None if math.isfinite(value) else f" is {value}"
        case list():
            items = cast("list[object]", value)
            return next((f"[{n}]{p}" for n, item in enumerate(items) if (p := json_problem(item))), None)
        case dict():
            return _problem_of_object(cast("dict[object, object]", value))
        case _:
            return f" is a {type(value).__name__}"


def _problem_of_object(value: dict[object, object]) -> str | None:
    for key, item in value.items():
        if not isinstance(key, str):
            return f" has the key {key!r}, which is no text"
        if problem := json_problem(item):
            return f".{key}{problem}"
    return None


def revive(value: JSON, annotation: Any) -> Any:
    """`value` as an object of the annotated type; as it is where it is none of that type."""
    if annotation is str or annotation is Any:
        return value
    try:
        return _adapter(annotation).validate_json(orjson.dumps(value), strict=True)
    except Exception:  # noqa: BLE001 - validators of the user's types may raise anything
        return value


def revive_savable(value: JSON, annotation: Any) -> Any:
    """As `revive`, but `value` as it is where the object is of a type that `dspy.Module.save` can't write."""
    revived = revive(value, annotation)
    try:
        orjson.dumps(revived, default=_saved_by_dspy)
    except TypeError:
        return value
    return revived


def _saved_by_dspy(value: Any) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    raise TypeError


@lru_cache(maxsize=256)
def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(annotation)
