"""Copies of a student that can be run and changed without affecting it."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cache, partial
from io import IOBase
from threading import Lock, RLock
from types import BuiltinFunctionType, GeneratorType, MethodType
from typing import Any, cast

import dspy

from simba_actors.errors import ConfigError, StudentError
from simba_actors.programs.object_graph import (
    ATOMS,
    SHARED,
    attributes_of,
    holds_atoms,
    is_data,
    is_lm,
    objects_within,
    slots_of,
)
from simba_actors.programs.references import REFERENCES, References

UNCOPYABLE = (type(Lock()), type(RLock()), GeneratorType, IOBase)
"""Types that `copy.deepcopy` can't copy."""

MISSING = object()


def copied(student: dspy.Module) -> dspy.Module:
    """Return a copy of `student` that uses the same LMs. See `Copier`.

    Raises:
        ConfigError: One of the student's predictors can't be copied; the message names it.
    """
    return Copier(student).copy()[0]


class Copier:
    """Makes copies of one program, which must not change meanwhile.

        copier = Copier(program)
        clone, copy_of = copier.copy()
        copy_of[id(program.answer)] is clone.answer

    Lists, dicts, tuples, plain objects and the modules in them are copied. An object that appears twice in the program
    appears twice in its copy. An object that can't be copied, such as a lock or a client, is shared, as in
    `dspy.Module.deepcopy`. A container or an object that holds such an object beside a module is copied around it.
    Large data without modules is shared, too.

    Args:
        program: The program to copy.
        lms: LMs that copies use in place of the program's, by the `id` of the replaced one. Others are shared.

    Raises:
        ConfigError: One of the program's predictors can't be copied; the message names it.
    """

    def __init__(self, program: dspy.Module, lms: Mapping[int, Any] | None = None) -> None:
        self._program = program
        parts = list(objects_within(program))
        self._lms = {id(lm): (lms or {}).get(id(lm), lm) for lm in filter(is_lm, parts)}
        self._references = References({id(part) for part in parts if issubclass(type(part), dspy.Module)})
        self._references_within: dict[int, list[Any]] = {}
        self._plain: set[int] = set()
        self._copyable: set[int] = set()
        self._uncopyable: set[int] = set()
        self._paths: dict[str, int] = {}
        """The `id` of each predictor by its path, if a module of the program makes its own copies."""
        self._check()

    def copy(self) -> tuple[dspy.Module, Mapping[int, Any]]:
        """Return a copy, and the copies of the program's parts by the `id` of the part."""
        memo: dict[int, Any] = dict(self._lms)
        clone = self._copy(self._program, memo)
        if self._paths:
            memo.update((self._paths[path], predictor) for path, predictor in _all_predictors(clone))
        return clone, memo

    def _check(self) -> None:
        """Raise ConfigError for a predictor that a copy shares with the program."""
        clone, copy_of = self.copy()
        own = {id(predictor): name for name, predictor in _all_predictors(self._program)}
        for _, predictor in _all_predictors(clone):
            if id(predictor) in own:
                raise ConfigError(
                    f"student {type(self._program).__name__}: {own[id(predictor)]} can't be copied, since something "
                    "that holds it copies itself without it. Rollouts need copies of their own: hold the predictor in "
                    "a dspy.Module, a list or a dict, or take out the __deepcopy__ that returns the same object."
                )
        if not own.keys() <= copy_of.keys():
            self._paths = {name: number for number, name in own.items()}

    def _copy(self, value: Any, memo: dict[int, Any]) -> Any:
        kind = cast("type[Any]", type(value))
        if kind in ATOMS:
            return value
        known = memo.get(id(value), MISSING)
        if known is not MISSING:
            return known
        # By type, since a proxy may answer isinstance() with whatever it stands for, or with an error.
        if id(value) in self._uncopyable:
            return value
        if issubclass(kind, REFERENCES):
            return self._of_reference(value, memo)
        if kind is BuiltinFunctionType:
            return self._of_builtin(value, memo)
        if issubclass(kind, SHARED):
            return value
        if kind is list or kind is dict or kind is set:
            return self._of_container(value, memo)
        if kind is tuple:
            return self._of_tuple(value, memo)
        if kind is MethodType:
            return MethodType(self._copy(value.__func__, memo), self._copy(value.__self__, memo))
        if kind is dspy.Tool:
            return self._of_tool(value, memo)
        if kind is dspy.Example:
            return self._of_example(value, memo)
        if issubclass(kind, dspy.Module) and _is_copied_as_any_module(kind):
            return self._of_attributes(value, memo)
        return self._of_object(value, memo)

    def _of_container(self, value: Any, memo: dict[int, Any]) -> Any:
        kind = cast("type[Any]", type(value))
        if id(value) not in self._plain and id(value) not in self._copyable:
            if is_data(value):
                self._uncopyable.add(id(value))
                return value
            (self._plain if holds_atoms(value) else self._copyable).add(id(value))
        if id(value) in self._plain:
            clone = memo[id(value)] = value.copy()
            return clone
        clone = memo[id(value)] = kind()
        if kind is list:
            clone.extend(self._copy(item, memo) for item in value)
        elif kind is dict:
            clone.update((self._copy(key, memo), self._copy(item, memo)) for key, item in value.items())
        else:
            clone.update(self._copy(item, memo) for item in value)
        return clone

    def _of_tuple(self, value: tuple[Any, ...], memo: dict[int, Any]) -> tuple[Any, ...]:
        items = tuple([self._copy(item, memo) for item in value])
        return value if all(clone is item for clone, item in zip(items, value, strict=True)) else items

    def _of_builtin(self, value: Any, memo: dict[int, Any]) -> Any:
        """Return a method of a copy, such as a list's `append`, or a function itself: it is bound to its module."""
        bound_to = self._copy(value.__self__, memo)
        return value if bound_to is value.__self__ else getattr(bound_to, value.__name__)

    def _of_reference(self, value: Any, memo: dict[int, Any]) -> Any:
        """Return the reference itself, unless it leads to a module of the program."""
        if self._references.leads_to_module(value):
            return self._references.copied(value, memo, partial(self._copy, memo=memo))
        self._uncopyable.add(id(value))
        return value

    def _of_tool(self, tool: Any, memo: dict[int, Any]) -> Any:
        """Return the tool itself, unless its function is a method of something that is copied."""
        function = self._copy(tool.func, memo)
        clone = tool if function is tool.func else tool.model_copy(update={"func": function})
        memo[id(tool)] = clone
        return clone

    def _of_example(self, example: Any, memo: dict[int, Any]) -> Any:
        """Return a copy of an example: students hold many, in their demos, and most have texts only."""
        if id(example) not in self._plain:
            parts = cast("dict[str, Any]", vars(example)).values()
            if not all(type(part) in ATOMS or holds_atoms(part) for part in parts):
                return self._of_attributes(example, memo)
            self._plain.add(id(example))
        clone: Any = object.__new__(dspy.Example)
        memo[id(example)] = clone
        attributes = cast("dict[str, Any]", vars(clone))
        for name, part in cast("dict[str, Any]", vars(example)).items():
            attributes[name] = part if type(part) in ATOMS else part.copy()
        return clone

    def _of_attributes(self, value: Any, memo: dict[int, Any]) -> Any:
        kind = cast("type[Any]", type(value))
        clone: Any = object.__new__(kind)
        memo[id(value)] = clone
        attributes = cast("dict[str, Any]", vars(clone))
        for name, item in cast("dict[str, Any]", vars(value)).items():
            attributes[name] = self._copy(item, memo)
        for slot in slots_of(kind).values():
            try:
                item = slot.__get__(value)
            except AttributeError:
                continue  # It was never set.
            slot.__set__(clone, self._copy(item, memo))
        if issubclass(type(value), dspy.Module):
            # As in DSPy's own copies.
            attributes["history"], attributes["callbacks"] = [], []
        return clone

    def _of_object(self, value: Any, memo: dict[int, Any]) -> Any:
        try:
            if is_data(value):
                self._uncopyable.add(id(value))
                return value
            self._check_copyable(value)
            self._copy_references_within(value, memo)
            known = dict(memo)
            clone = copy.deepcopy(value, known)
        except Exception:  # noqa: BLE001 - an attribute's own __deepcopy__ may raise anything
            return self._copy_around_uncopyable(value, memo)
        # Objects that deepcopy keeps alive must live as long as the memo, under a key that is no object's id.
        memo[-len(memo)] = known.pop(id(known), None)
        memo.update(known)
        return clone

    def _check_copyable(self, value: Any) -> None:
        """Raise TypeError before deepcopy does, which leaves half-made objects behind, whose __del__ may complain."""
        if id(value) not in self._copyable:
            held = any(issubclass(type(part), UNCOPYABLE) for part in objects_within(value))
            if held and not hasattr(value, "__deepcopy__"):
                raise TypeError(f"{type(value).__name__} holds what can't be copied")
            self._copyable.add(id(value))

    def _copy_references_within(self, value: Any, memo: dict[int, Any]) -> None:
        """Copy references that deepcopy would keep as they are. It takes what is in `memo` for copied."""
        if id(value) not in self._references_within:
            references = [part for part in objects_within(value) if issubclass(type(part), REFERENCES)]
            self._references_within[id(value)] = list(filter(self._references.leads_to_module, references))
        for reference in self._references_within[id(value)]:
            self._copy(reference, memo)

    def _copy_around_uncopyable(self, value: Any, memo: dict[int, Any]) -> Any:
        """Return a copy of a container or an object that holds a module, and anything else as it is."""
        kind = cast("type[Any]", type(value))
        make: Any = kind
        if issubclass(kind, dspy.Module):
            return self._of_attributes(value, memo)
        if not any(issubclass(type(part), dspy.Module) for part in objects_within(value)):
            self._uncopyable.add(id(value))
            return value
        if issubclass(kind, partial):
            keywords = self._copy(value.keywords, memo)
            return partial(self._copy(value.func, memo), *self._copy(value.args, memo), **keywords)
        if issubclass(kind, tuple):  # A named one.
            return make(*self._of_tuple(value, memo))
        if issubclass(kind, frozenset):
            return make([self._copy(item, memo) for item in value])
        clone: Any = copy.copy(value)
        memo[id(value)] = clone
        if issubclass(kind, list | deque):
            clone.clear()
            clone.extend([self._copy(item, memo) for item in value])
        elif issubclass(kind, set):
            clone.clear()
            clone.update([self._copy(item, memo) for item in value])
        elif issubclass(kind, dict):
            for key, item in value.items():
                clone[key] = self._copy(item, memo)
        for name, item in attributes_of(value).items():
            object.__setattr__(clone, name, self._copy(item, memo))
        return clone


def copied_value(value: Any) -> Any:
    """Return a deep copy of an input, or the input itself if it can't be copied."""
    if type(value) in ATOMS:
        return value
    if holds_atoms(value):
        return value.copy()
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - a value's own __deepcopy__ may raise anything
        return value


def copied_example(example: dspy.Example) -> dspy.Example:
    """Return a copy of `example` with copies of its values. A `dspy.Prediction` keeps its inputs, unlike in DSPy."""
    clone = copy.copy(example)
    attributes = vars(clone)
    for name, value in list(attributes.items()):
        if type(value) is dict:
            values = cast("dict[str, Any]", value)
            attributes[name] = {key: copied_value(item) for key, item in values.items()}
        else:
            attributes[name] = copied_value(value)
    return clone


@cache
def _is_copied_as_any_module(kind: type[Any]) -> bool:
    """Return whether a class leaves its copies to `dspy.Module`."""
    names = ("__deepcopy__", "__copy__", "__getstate__", "__setstate__", "__reduce__", "__reduce_ex__")
    return all(name not in vars(ancestor) for ancestor in kind.__mro__ if ancestor not in _MODULES for name in names)


_MODULES = frozenset(dspy.Module.__mro__)


def _all_predictors(program: Any) -> Iterator[tuple[str, Any]]:
    """Yield every predictor, including those of frozen sub-modules, with the path that leads to it."""
    return program.named_sub_modules(dspy.Predict)


def check_module(student: object) -> None:
    """Raise ConfigError if `student` is not a module, or has a predictor that can't be copied."""
    if not isinstance(student, dspy.Module):
        given = cast("Any", student)
        if isinstance(given, type) and issubclass(given, dspy.Module):
            name = given.__name__
            raise ConfigError(f"student is the class {name}, not a module: call it, as in {name}(…)")
        raise ConfigError(f"student must be a dspy.Module, not {type(student).__name__}: {given!r:.80}")
    predictors_of(student)
    Copier(student)


def predictors_of(student: dspy.Module) -> dict[str, Any]:
    """Return the predictors that are not frozen, by name.

    Raises:
        StudentError: The student holds itself.
    """
    try:
        return dict(cast("list[tuple[str, Any]]", student.named_predictors()))
    except RecursionError as error:
        raise StudentError(
            f"student {type(student).__name__} holds itself in an attribute, so DSPy can't list its predictors: keep "
            "no reference to a module in itself or in its parts"
        ) from error
