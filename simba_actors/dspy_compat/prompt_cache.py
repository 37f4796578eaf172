"""Adapters that cache the texts that many calls share: system messages, demos, the inputs of an example.

This saves 16 % of the CPU time of a real LM call, see tests/benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import copy
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import dspy

STOCK_ADAPTERS = (dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter)
"""Adapters whose output depends only on the signature and the values. Others may use more."""

PROGRAMS_KEPT = 128
"""Number of system messages, and of lists of demos, kept for each adapter: more than the programs of a usual step."""

MESSAGES_KEPT, LONGEST_KEPT = 2048, 10_000
"""Number of messages kept for each adapter, and the maximum length of each: looking up longer ones saves little."""

PLAIN = frozenset({str, int, float, bool, type(None)})


def with_prompt_cache(adapter: Any) -> Any:
    """Return a copy of a stock `adapter` that writes the same prompts faster; any other adapter as it is.

        with dspy.context(adapter=with_prompt_cache(dspy.settings.adapter or dspy.ChatAdapter())):
            ...

    DSPy writes the fields' description, all demos and the inputs again for each call. An optimizer runs each program,
    and each example, many times.
    """
    if type(adapter) not in STOCK_ADAPTERS:
        return adapter
    copied = copy(adapter)
    copied.format_system_message = _cached_system_message(adapter.format_system_message)
    copied.format_user_message_content = _cached_content(adapter.format_user_message_content)
    copied.format_assistant_message_content = _cached_content(adapter.format_assistant_message_content)
    copied.format_demos = _cached_demos(copied.format_demos)
    return copied


def _cached_system_message(write: Callable[[Any], str]) -> Callable[[Any], str]:
    @lru_cache(maxsize=PROGRAMS_KEPT)
    def written(signature: Any, instructions: str) -> str:
        return write(signature)

    # A signature's instructions can be set in place.
    return lambda signature: written(signature, signature.instructions)


def _cached_content(write: Callable[..., str]) -> Callable[..., str]:
    known: dict[Hashable, str] = {}

    def content(signature: Any, values: Mapping[str, Any], *args: Any, **options: Any) -> str:
        key = _key(signature, [values], args, *options.items())
        if key is None:
            return write(signature, values, *args, **options)
        written = known.get(key)
        if written is None:
            written = write(signature, values, *args, **options)
            if len(written) <= LONGEST_KEPT:
                if len(known) >= MESSAGES_KEPT:
                    known.clear()
                known[key] = written
        return written

    return content


def _cached_demos(write: Callable[..., list[dict[str, Any]]]) -> Callable[..., list[dict[str, Any]]]:
    known: dict[Hashable, list[dict[str, Any]]] = {}

    def messages(signature: Any, demos: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        key = _key(signature, demos)
        if key is None:
            return write(signature, demos)
        written = known.get(key)
        if written is None:
            written = write(signature, demos)
            if len(known) >= PROGRAMS_KEPT:
                known.clear()
            known[key] = written
        return [dict(message) for message in written]

    return messages


_shapes: WeakKeyDictionary[Any, Hashable] = WeakKeyDictionary()


def _shape(signature: Any) -> Hashable:
    """Return a key of what the fields' texts depend on besides the values. Instructions are not part of it."""
    known = _shapes.get(signature)
    if known is None:
        fields: Mapping[str, Any] = signature.fields
        known = tuple((name, field.annotation, repr(field.json_schema_extra)) for name, field in fields.items())
        _shapes[signature] = known
    return known


def _key(signature: Any, values: Iterable[Mapping[str, object]], *more: Hashable) -> Hashable | None:
    """Return a key of the signature's fields and the values; None if a value may be changed in place.

    Types are part of it, since 1, 1.0 and True are equal but written differently. So are 0.0 and -0.0.
    """
    try:
        key = (_shape(signature), *map(_plain, values), *more)
        hash(key)
    except Exception:  # noqa: BLE001 - a signature's extras and options may be anything; then DSPy writes it
        return None
    return key


def _plain(values: Mapping[str, object]) -> Hashable:
    """Return names, types and values. Raise TypeError if a value may be changed in place."""
    kinds: tuple[type, ...] = tuple(map(type, values.values()))
    if not PLAIN.issuperset(kinds):
        raise TypeError
    own = tuple(values.values())
    return tuple(values), kinds, tuple(map(repr, own)) if float in kinds else own
