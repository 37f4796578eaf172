"""Functions and weak references that lead to the modules of a program, and copies of them that lead to the copies.

class Researcher(dspy.Module):
    def __init__(self):
        super().__init__()
        self.rewrite = dspy.Predict("question -> query")

        def search(question: str) -> list[str]:  # Leads to `self`.
            return index.search(self.rewrite(question=question).query)

        self.agent = dspy.ReAct("question -> answer", tools=[search])
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, MutableMapping, Set
from functools import lru_cache, update_wrapper
from types import BuiltinFunctionType, CellType, FunctionType, MethodType
from typing import Any, cast

from simba_actors.programs.object_graph import objects_within

CachedFunction = type(lru_cache(len))

REFERENCES = (FunctionType, CachedFunction, weakref.ref)
"""Types of references. `copy.deepcopy` treats them as values that hold nothing."""


class References:
    """Knows which references lead to the modules of one program, and copies those.

    Args:
        modules: The `id` of each module of the program.
    """

    def __init__(self, modules: Set[int]) -> None:
        self._modules = modules
        self._known: dict[int, bool] = {}

    def leads_to_module(self, value: Any) -> bool:
        """Return whether code that uses `value` can reach a module of the program. `value` is part of the program."""
        if id(value) not in self._known:
            self._known[id(value)] = self._finds_module(value)
        return self._known[id(value)]

    def _finds_module(self, value: Any) -> bool:
        seen: set[int] = set()
        ahead = [value]
        while ahead:
            for part in objects_within(ahead.pop()):
                if id(part) in self._modules:
                    return True
                if id(part) not in seen:
                    seen.add(id(part))
                    ahead.extend(referents(part))
        return False

    def copied(self, reference: Any, memo: MutableMapping[int, Any], copied: Callable[[Any], Any]) -> Any:
        """Return a copy of a reference that leads to a module. `copied` returns the copy of another value."""
        kind = cast("type[Any]", type(reference))
        if issubclass(kind, FunctionType):
            return self._copied_function(reference, memo, copied)
        if issubclass(kind, CachedFunction):
            clone: Any = lru_cache(**reference.cache_parameters())(copied(reference.__wrapped__))
        else:
            clone = weakref.ref(copied(reference()))
        memo[id(reference)] = clone
        return clone

    def _copied_function(
        self, function: FunctionType, memo: MutableMapping[int, Any], copied: Callable[[Any], Any]
    ) -> FunctionType:
        # Variables that functions share stay shared, also with functions that are not copied.
        closure = function.__closure__ or ()
        own = [cell for cell in closure if any(map(self.leads_to_module, _contents(cell)))]
        new = {id(cell): memo.setdefault(id(cell), CellType()) for cell in own}
        cells = [new.get(id(cell), cell) for cell in closure]
        clone = FunctionType(function.__code__, function.__globals__, function.__name__, None, tuple(cells))
        memo[id(function)] = clone
        update_wrapper(clone, function)
        vars(clone).clear()
        vars(clone).update({name: copied(value) for name, value in vars(function).items()})
        clone.__defaults__ = copied(function.__defaults__)
        clone.__kwdefaults__ = copied(function.__kwdefaults__)
        for cell in own:
            new[id(cell)].cell_contents = copied(cell.cell_contents)
        return clone


def referents(value: Any) -> list[Any]:
    """Return what a reference leads to directly; nothing for any other value."""
    kind = cast("type[Any]", type(value))
    if issubclass(kind, MethodType):
        return [value.__func__]
    if issubclass(kind, FunctionType):
        captured = [content for cell in value.__closure__ or () for content in _contents(cell)]
        return [*captured, value.__defaults__, value.__kwdefaults__, *vars(value).values()]
    if issubclass(kind, CachedFunction):
        return [value.__wrapped__]
    if issubclass(kind, weakref.ref):
        return [value()]
    return [value.__self__] if issubclass(kind, BuiltinFunctionType) else []


def _contents(cell: CellType) -> list[Any]:
    """Return what a variable of a closure holds, in a list that is empty if it was never set."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []
