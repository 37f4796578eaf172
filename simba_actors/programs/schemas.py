"""Types of fields as JSON Schema, and back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from simba_actors.search.rollout import JSON

TYPES: Mapping[object, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "object": dict[str, Any],
    "null": type(None),
}


class _Schema(GenerateJsonSchema):
    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012


def schema_of(annotation: Any) -> dict[str, JSON] | str:
    """Return the JSON Schema of a type; its name if it has none."""
    if annotation is str:  # Most fields are, and Pydantic takes milliseconds.
        return {"type": "string"}
    try:
        return TypeAdapter(annotation).json_schema(schema_generator=_Schema)
    except (PydanticUserError, NameError):  # The type has no JSON schema.
        return inspect.formatannotation(annotation)


def annotation_of(schema: Mapping[str, Any]) -> Any:
    """Return the type that a JSON Schema describes, as far as it is made of JSON's own types; otherwise `Any`.

    annotation_of({"type": "array", "items": {"type": "string"}})  # list[str]

    """
    options = schema.get("enum")
    if isinstance(options, list) and options and all(isinstance(option, str) for option in cast("list[Any]", options)):
        return Literal[tuple(cast("list[str]", options))]
    kind = schema.get("type")
    if kind == "array":
        items: Any = schema.get("items")
        return list[annotation_of(cast("Mapping[str, Any]", items)) if isinstance(items, Mapping) else Any]
    return TYPES.get(kind, Any) if isinstance(kind, str) else Any


def fitted(fields: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return `fields` with whole numbers as int or float, as in their schemas: JSON does not distinguish 1 and 1.0."""
    return {name: _fitted(value, schemas.get(name, {})) for name, value in fields.items()}


def _fitted(value: Any, schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if kind == "number" and type(value) is int:
        return float(value)
    if kind == "integer" and type(value) is float and value.is_integer():
        return int(value)
    return value
