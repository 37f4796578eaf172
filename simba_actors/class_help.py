"""Help for users of the public classes: the fields in `help()`, and the nearest name for one that is misspelled."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache, wraps
from typing import Any, TypeVar, cast

T = TypeVar("T")

WIDTH = 110
"""Characters of a line of the list of fields."""


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


def add_field_docs(cls: type[Any]) -> None:
    """Append the docstrings of a dataclass's fields, also of inherited ones, since `help` does not show them otherwise.

    Without source code or docstrings (`python -OO`), the docstring stays as it is.
    """
    documented: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if "__dataclass_fields__" in vars(each):
            documented |= _field_docs(each.__module__).get(each.__qualname__, ())
    if not cls.__doc__ or not documented:
        return
    lines = [
        textwrap.fill(f"{name}: {text}", WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 12)
        for name, text in documented.items()
    ]
    cls.__doc__ = f"{cls.__doc__.rstrip()}\n\n    Fields:\n" + "\n".join(lines) + "\n    "


@cache
def _field_docs(module: str) -> dict[str, list[tuple[str, str]]]:
    """Return the name and docstring of each documented field, by the names of the module's classes."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):  # There is no source.
        return {}
    return {node.name: list(_documented(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, doc in zip(node.body, node.body[1:], strict=False):
        match field, doc:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(inspect.cleandoc(text).split())
            case _:
                pass
