"""Docstrings of dataclass fields, where `help` finds them."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

WIDTH = 110
"""Characters of a line of the list of fields."""


def add_field_docs(cls: type[Any]) -> None:
    """Append the docstrings of a dataclass's fields to its own, since `help` does not show them otherwise.

    Without source code or docstrings (`python -OO`), the docstring stays as it is.
    """
    documented = dict(_field_docs(cls.__module__).get(cls.__qualname__, ()))
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
