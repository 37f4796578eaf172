"""Images, audio, files and other `dspy.Type`s, as the text that DSPy writes for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import dspy
from dspy.adapters.types import base_type

_MARKED = re.compile(
    f"{re.escape(base_type.CUSTOM_TYPE_START_IDENTIFIER)}(.*?){re.escape(base_type.CUSTOM_TYPE_END_IDENTIFIER)}",
    re.DOTALL,
)
"""A custom type within a string: a JSON list of content parts between two marks. Prompts contain these parts."""

_MADE_FROM_PART: Mapping[str, tuple[type[Any], Callable[[Any], Any]]] = {
    "image_url": (dspy.Image, lambda part: dspy.Image(part["image_url"]["url"])),
    "input_audio": (
        dspy.Audio,
        lambda part: dspy.Audio(data=part["input_audio"]["data"], audio_format=part["input_audio"]["format"]),
    ),
    "file": (dspy.File, lambda part: dspy.File(**part["file"])),
}


def is_custom(text: str) -> bool:
    """Return whether `text` holds an object of a custom type."""
    return _MARKED.search(text) is not None


def custom_object(text: str) -> Any:
    """Return the image, audio or file that `text` stands for; `text` itself if it stands for something else.

    DSPy shows other custom types in prompts from their text as it would show the object.
    """
    marked = _MARKED.fullmatch(text)
    if marked is None:
        return text
    try:
        parts = cast("list[dict[str, Any]]", json.loads(marked[1]))
        if len(parts) == 1 and parts[0].get("type") in _MADE_FROM_PART:
            return _MADE_FROM_PART[parts[0]["type"]][1](parts[0])
    except Exception:  # noqa: BLE001 - not what DSPy writes, or made by a class of the user's
        return text
    return text


def named(text: str) -> str:
    """Return `text` with the name of each custom type in place of its content, as in "<Image>"."""
    return _MARKED.sub(lambda marked: f"<{_name(marked[1])}>", text)


def _name(parts: str) -> str:
    try:
        kind = json.loads(parts)[0]["type"]
        return _MADE_FROM_PART[kind][0].__name__ if kind in _MADE_FROM_PART else str(kind)
    except (ValueError, LookupError, TypeError):
        return "custom type"
