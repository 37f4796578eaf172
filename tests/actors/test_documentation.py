"""The kernel's documentation: its examples run, and every public name has a docstring."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

from simba_actors import actors

MODULES = [
    actors,
    *(importlib.import_module(f"{actors.__name__}.{m.name}") for m in pkgutil.iter_modules(actors.__path__)),
]
WITH_EXAMPLES = [module for module in MODULES if any(test.examples for test in doctest.DocTestFinder().find(module))]


@pytest.mark.parametrize("module", WITH_EXAMPLES, ids=lambda module: module.__name__)
def test_the_examples_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", sorted(name for name in actors.__all__ if isinstance(getattr(actors, name), type)))
def test_every_public_class_says_what_it_is_for(name: str) -> None:
    described = getattr(actors, name).__doc__
    assert described is not None
    assert not described.startswith(f"{name}(")
