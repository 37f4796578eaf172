"""Adapters that write once what many calls have in common: a system message, demos, an example's inputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from functools import lru_cache
from typing import Any

import dspy

STOCK_ADAPTERS = (dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter)
"""What these write follows from the signature and the values alone, which is not known of others."""

PROGRAMS_KEPT = 128
"""System messages, and lists of demos, of each adapter. A step of `dspy.SIMBA`'s defaults runs fewer programs."""

MESSAGES_KEPT, LONGEST_KEPT = 2048, 10_000
"""Of each adapter, and how many characters each may have: what takes long to write of long ones is their length."""

PLAIN = frozenset({str, int, float, bool, type(None)})


def remembering(adapter: Any) -> Any:
    """A copy of a stock `adapter` that writes the same prompts faster; any other adapter as it is.

        with dspy.context(adapter=remembering(dspy.settings.adapter or dspy.ChatAdapter())):
            ...

    DSPy writes the fields' description, all demos and the inputs anew for each call, which is a third of what a call
    costs the processor. An optimizer runs each of its programs, and each example, many times.
    """
    if type(adapter) not in STOCK_ADAPTERS:
        return adapter
    copied = copy(adapter)
    copied.format_system_message = _remembered_system_message(adapter.format_system_message)
    copied.format_user_message_content = _remembered_content(adapter.format_user_message_content)
    copied.format_assistant_message_content = _remembered_content(adapter.format_assistant_message_content)
    copied.format_demos = _remembered_demos(copied.format_demos)
    return copied


def _remembered_system_message(write: Callable[[Any], str]) -> Callable[[Any], str]:
    @lru_cache(maxsize=PROGRAMS_KEPT)
    def written(signature: Any, instructions: str) -> str:
        return write(signature)

    # A signature's instructions can be set in place.
    return lambda signature: written(signature, signature.instructions)


def _remembered_content(write: Callable[..., str]) -> Callable[..., str]:
    known: dict[Hashable, str] = {}

    def content(signature: Any, values: Mapping[str, Any], *args: Any, **options: Any) -> str:
        key = (_shape(signature), _plain(values), args, *options.items())
        try:
            return known[key]
        except KeyError:
            written = write(signature, values, *args, **options)
        except TypeError:  # The key has a value that may be changed in place.
            return write(signature, values, *args, **options)
        if len(written) <= LONGEST_KEPT:
            if len(known) >= MESSAGES_KEPT:
                known.clear()
            known[key] = written
        return written

    return content


def _remembered_demos(write: Callable[..., list[dict[str, Any]]]) -> Callable[..., list[dict[str, Any]]]:
    known: dict[Hashable, list[dict[str, Any]]] = {}

    def messages(signature: Any, demos: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        key = (_shape(signature), *map(_plain, demos))
        try:
            written = known[key]
        except KeyError:
            if len(known) >= PROGRAMS_KEPT:
                known.clear()
            written = known[key] = write(signature, demos)
        except TypeError:  # The key has a value that may be changed in place.
            return write(signature, demos)
        return [dict(message) for message in written]

    return messages


@lru_cache(maxsize=PROGRAMS_KEPT)
def _shape(signature: Any) -> Hashable:
    """What the fields' texts follow from beside the values: equal for programs that differ in their instructions."""
    return tuple((name, field.annotation, repr(field.json_schema_extra)) for name, field in signature.fields.items())


def _plain(values: Mapping[str, object]) -> Hashable:
    """A key of the values and their types: 1, 1.0 and True are equal and written differently.

    A value that may be changed in place makes it a key that can't be looked up.
    """
    kinds: tuple[type, ...] = tuple(map(type, values.values()))
    given = values.values()
    return tuple(values), kinds, tuple(given) if PLAIN.issuperset(kinds) else list(given)
