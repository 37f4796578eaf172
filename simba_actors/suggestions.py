"""Suggestions for names that are misspelled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar, cast

T = TypeVar("T")


def suggests_names(
    *, within: Mapping[str, type[Any]] | None = None, named: Mapping[str, str] | None = None
) -> Callable[[type[T]], type[T]]:
    """Return a class decorator: an unknown keyword argument raises a TypeError that suggests the nearest known one.

        @suggests_names(within={"budget": Budget})
        @dataclass(frozen=True, kw_only=True)
        class OptimizerConfig: ...

        OptimizerConfig(max_call=3)  # TypeError: … did you mean budget=Budget(max_calls=…)?

    Nothing else about the class changes.

    Args:
        within: Classes whose arguments are suggested as well, by the argument that takes an instance.
        named: Suggestions for names that other libraries use.
    """

    def decorate(cls: type[T]) -> type[T]:
        initialize = cast("Callable[..., None]", cls.__init__)
        known = {name: name for name in _arguments(cls)}
        for argument, kind in (within or {}).items():
            known = {name: f"{argument}={kind.__name__}({name}=…)" for name in _arguments(kind)} | known
        known |= named or {}

        @wraps(initialize)
        def checked(self: Any, *args: Any, **kwargs: Any) -> None:
            for name in kwargs:
                if name not in arguments:
                    raise TypeError(f"{cls.__name__} has no argument {name!r}: {did_you_mean(name, known, cls)}")
            initialize(self, *args, **kwargs)

        arguments = _arguments(cls)
        cast("Any", cls).__init__ = checked
        return cls

    return decorate


def did_you_mean(name: str, known: Mapping[str, str], cls: type[Any]) -> str:
    """Return a question with what the nearest of the `known` names stands for, or where all names are listed."""
    nearest = get_close_matches(name, known, n=1)
    if not nearest:
        return f"help({cls.__name__}) lists all of them"
    return f"did you mean {known[nearest[0]]}?"


def _arguments(cls: type[Any]) -> tuple[str, ...]:
    """Return the names of the keyword arguments of a class."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return tuple(each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD))
