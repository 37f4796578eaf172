"""Values of DSPy fields as plain JSON, and back to the types that a signature gives them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping, Set
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple, cast

import dspy
import numpy as np
import orjson
import pydantic

from simba_actors.dspy_compat.custom_types import custom_object, is_custom
from simba_actors.programs.configuration import LARGEST_INTEGER, without_surrogates
from simba_actors.search.rollout import JSON

DEEPEST = 100
"""Maximum depth of nested lists and objects. Readers and writers of JSON give up at a few hundred."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""The address of an object in its default repr, which differs in every process."""


def to_json_value(value: Any) -> JSON:
    """Return `value` as JSON. Never raises; a value that has no JSON form becomes text.

    Pydantic models, dataclasses and mappings become objects. Sequences, sets and numpy arrays become lists, and dates
    ISO 8601. NaN, infinities, integers beyond 64 bits, and values deeper than `DEEPEST` become text. Sets are sorted,
    and no text holds an object's address, so the result is the same in every process.
    """
    return _convert(value, _Path())


def contents(value: Any) -> JSON:
    """Return `value` as JSON like `to_json_value`, with the attributes of objects that have no repr of their own.

    The result is for digests; do not store or show it. Values that were made in the same way give the same result in
    every process. An object inside such an object contributes only its type.
    """
    return _convert(value, _Path(open_up=True))


def json_fields(values: Any) -> dict[str, JSON]:
    """Return the fields of a prediction, an example or a mapping as JSON; for other values, a field "output"."""
    if isinstance(values, dspy.Example | Mapping):
        converted = to_json_value(values)
        if isinstance(converted, dict):
            return converted
    return {"output": to_json_value(values)}


def text_of(value: Any) -> str:
    """Return `str(value)` without halves of surrogate pairs; if that raises, the type and the error."""
    try:
        return without_surrogates(str(value))
    except Exception as error:  # noqa: BLE001 - a class of the user's may raise anything
        return f"<{type(value).__name__}, whose text raises {type(error).__name__}>"


class _Path(NamedTuple):
    """The ids of the containers of a value, and whether to open up objects that have no repr of their own."""

    around: tuple[int, ...] = ()
    open_up: bool = False


def _convert(value: Any, path: _Path) -> JSON:
    try:
        return _converted(value, path)
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything, as may a value that is nested too deep
        return _ADDRESS.sub("", text_of(value))


def _converted(value: Any, path: _Path) -> JSON:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _convert(value.value, path)
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else float.__repr__(value)
    if id(value) in path.around:
        return f"<{type(value).__name__} within itself>"
    if len(path.around) >= DEEPEST:
        return _ADDRESS.sub("", text_of(value))
    return _compound(value, path._replace(around=(*path.around, id(value))))


def _compound(value: Any, path: _Path) -> JSON:
    match value:
        case pydantic.BaseModel():
            return _of_model(value, path)
        case dspy.Example():
            return _of_items(cast("Iterable[tuple[Any, Any]]", value.items()), path)
        case Mapping():
            return _of_items(cast("Mapping[Any, Any]", value).items(), path)
        case np.generic() | np.ndarray():
            return _convert(cast("Any", value).tolist(), path)
        case Set():  # Also the views of a dict.
            items = [_convert(item, path) for item in cast("Set[Any]", value)]
            return sorted(items, key=lambda item: orjson.dumps(item, option=orjson.OPT_SORT_KEYS))
        case list() | tuple():
            return [_convert(item, path) for item in cast("list[Any]", value)]
        case dt.date() | dt.time():
            return value.isoformat()
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "backslashreplace")
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _of_items(((f.name, getattr(value, f.name)) for f in dataclasses.fields(value)), path)
        case _ if path.open_up and type(value).__str__ is object.__str__ and type(value).__repr__ is object.__repr__:
            attributes = cast("dict[str, Any]", getattr(value, "__dict__", {}))
            return {type(value).__qualname__: _of_items(attributes.items(), path._replace(open_up=False))}
        case _:
            return _ADDRESS.sub("", text_of(value))


def _of_model(model: pydantic.BaseModel, path: _Path) -> JSON:
    try:
        plain: Any = model.model_dump()
        # In JSON, pydantic lists the members of sets in the order of their hashes.
        dumped = plain if _holds_set(plain) else model.model_dump(mode="json")
    except Exception:  # noqa: BLE001 - a serializer of the user's may raise anything: take the fields one by one
        return _of_items(((name, getattr(model, name)) for name in type(model).model_fields), path)
    return _convert(dumped, path)


def _holds_set(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_set, cast("Mapping[Any, Any]", value).values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_set, cast("list[Any]", value)))
    return isinstance(value, Set)


def _of_items(items: Iterable[tuple[Any, Any]], path: _Path) -> JSON:
    return {text_of(key): _convert(item, path) for key, item in items}


def _integer(value: int) -> JSON:
    if -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
        return int(value)
    try:
        return int.__repr__(value)
    except ValueError:  # Python refuses to write more than a few thousand digits.
        return hex(value)


def revive(value: JSON, annotation: Any) -> Any:
    """Return `value` as an object of the annotated type, or as it is if it does not fit that type."""
    if annotation is str or annotation is Any:
        return value
    media = _with_custom_objects(value)
    try:
        if media is not value:
            return _adapter(annotation).validate_python(media)
        return _adapter(annotation).validate_json(orjson.dumps(value), strict=True)
    except Exception:  # noqa: BLE001 - validators of the user's types may raise anything
        return value


def revive_savable(value: JSON, annotation: Any) -> Any:
    """Return `revive(value)`, or `value` itself if `dspy.Module.save` can't write the object."""
    revived = revive(value, annotation)
    try:
        orjson.dumps(revived, default=_saved_by_dspy)
    except TypeError:
        return value
    return revived


def _with_custom_objects(value: JSON) -> Any:
    """Return `value` with images, audio and files as such; the same object if it has none."""
    if isinstance(value, str):
        return custom_object(value) if is_custom(value) else value
    if isinstance(value, list):
        items = [_with_custom_objects(item) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if isinstance(value, dict):
        fields = {name: _with_custom_objects(item) for name, item in value.items()}
        return value if all(fields[name] is item for name, item in value.items()) else fields
    return value


def _saved_by_dspy(value: Any) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    raise TypeError


@lru_cache(maxsize=256)
def _adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(annotation)
