"""The kernel imports nothing but the standard library."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from simba_actors import actors

FILES = sorted(Path(actors.__path__[0]).glob("*.py"))


def imported(file: Path) -> set[str]:
    """Return the full names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module)):
                names.add(module)
            case _:
                pass
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_module_of_the_kernel_imports_nothing_from_outside(file: Path) -> None:
    outside = {name for name in imported(file) if name.split(".")[0] not in sys.stdlib_module_names}
    assert all(name.startswith(actors.__name__) for name in outside)
