"""What an object holds: attributes, items of containers, arguments of methods and partials."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, partial
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, cast

import dspy

ATOMS = frozenset({str, bytes, int, float, complex, bool, type(None), type(Ellipsis), range, slice})
"""Immutable types whose values hold nothing mutable."""

SHARED = (type, FunctionType, BuiltinFunctionType, ModuleType, dspy.BaseLM)
"""Types that a copy shares with its original: code, and LMs with their connections."""

LARGEST_ARRAY, MOST_TEXTS, MOST_OBJECTS = 1_000_000, 100_000, 1_000
"""Maximum size of what is copied: bytes of an array, texts or numbers in a container, and other objects in one. Larger
values are data, such as a retriever's index or passages. Copies share them, since copying would take too long."""


def objects_within(value: Any) -> Iterator[Any]:
    """Yield `value` and everything that it holds: attributes, items of containers, arguments of methods and partials.

    Does not look into code, LMs and large data.
    """
    seen: set[int] = set()
    ahead: list[Any] = [value]
    while ahead:
        part = ahead.pop()
        if type(part) in ATOMS or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if not issubclass(type(part), SHARED):
            ahead.extend(_held_by(part))


def lms_within(program: Any) -> list[Any]:
    """Return the LMs that a program holds in attributes and containers, each once."""
    return list(filter(is_lm, objects_within(program)))


def is_lm(value: Any) -> bool:
    """Return whether `value` is an LM. Unlike isinstance(), this doesn't believe proxies."""
    return issubclass(type(value), dspy.BaseLM)


def _held_by(value: Any) -> list[Any]:
    kind = cast("type[Any]", type(value))
    held: list[Any] = [*attributes_of(value).values()]
    if is_data(value):
        return held
    if issubclass(kind, dict):
        held += value.values()
    elif issubclass(kind, list | tuple | set | frozenset | deque):
        held += value
    elif issubclass(kind, MethodType):
        held.append(value.__self__)
    elif issubclass(kind, partial):
        held += [value.func, *value.args, *value.keywords.values()]
    return held


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes in an object's `__dict__` and `__slots__`, without running its code."""
    found: dict[str, Any] = {}
    for name, slot in slots_of(cast("type[Any]", type(value))).items():
        with suppress(AttributeError):  # It was never set.
            found[name] = slot.__get__(value)
    with suppress(AttributeError):
        found.update(object.__getattribute__(value, "__dict__"))
    return found


@cache
def slots_of(kind: type[Any]) -> dict[str, Any]:
    """Return the descriptors of a class's `__slots__`, by name."""
    members = ((name, member) for cls in kind.__mro__ for name, member in vars(cls).items())
    return {name: member for name, member in members if isinstance(member, MemberDescriptorType)}


def is_data(value: Any) -> bool:
    """Return whether `value` is an array or a container too large to be copied again and again, and holds no module."""
    kind = cast("type[Any]", type(value))
    if not issubclass(kind, list | dict | set | frozenset | tuple | deque):
        size = getattr(value, "nbytes", 0) if hasattr(kind, "nbytes") else 0
        return isinstance(size, int) and size > LARGEST_ARRAY
    if len(value) <= MOST_OBJECTS or (len(value) <= MOST_TEXTS and holds_atoms(value)):
        return False
    items: Iterable[Any] = value.values() if issubclass(kind, dict) else value
    return not any(issubclass(type(item), dspy.Module) for item in items)


def holds_atoms(value: Any) -> bool:
    """Return whether `value` is a list, a dict or a set of immutable items."""
    if type(value) not in (list, dict, set):
        return False
    items: list[Any] = [*value, *value.values()] if type(value) is dict else value
    return ATOMS.issuperset(map(type, items))
