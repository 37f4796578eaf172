"""A configuration: one value for every variable of a student, immutable, known by its digest."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast

import orjson

from simba_actors.errors import NotJSONError
from simba_actors.programs.variables import DESCRIPTION, split_name
from simba_actors.search.rollout import JSON

LARGEST_INTEGER = 2**63 - 1
"""Largest integer that is kept as such. Beyond it, JSON readers differ."""

Demo: TypeAlias = Mapping[str, JSON]
"""The fields of one worked example, as JSON."""


@dataclass(frozen=True)
class Configuration:
    """Instructions and demos of each predictor, and settings if the space has any. Immutable.

        configuration = space.extract(student)
        shorter = configuration.with_instructions("answer", "Answer in one word.")
        print(shorter.diff(configuration))

    Reading a value returns a copy.
    """

    values: Mapping[str, JSON]
    """Values by name: "<predictor>.instructions" is a string, "<predictor>.demos" a list of demos, and
    "<predictor>.<setting>" the value of a setting. They are in the order of the student's `named_predictors()`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _Values(self.values))

    @classmethod
    def of(cls, predictors: Mapping[str, tuple[str, Iterable[Demo]]]) -> Configuration:
        """Make a configuration from the instructions and demos of each predictor."""
        values: dict[str, JSON] = {}
        for name, (instructions, demos) in predictors.items():
            values[f"{name}.instructions"] = instructions
            values[f"{name}.demos"] = [dict(demo) for demo in demos]
        return cls(values)

    @cached_property
    def predictors(self) -> tuple[str, ...]:
        """Names of predictors, as in `named_predictors()`."""
        return tuple(name.removesuffix(".demos") for name in self.values if name.endswith(".demos"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the values, in hex: equal for equal configurations, in every process."""
        return hashlib.sha256(self._canonical).hexdigest()

    @cached_property
    def _canonical(self) -> bytes:
        self.check_json()
        return orjson.dumps(self._stored, option=orjson.OPT_SORT_KEYS)

    @property
    def _stored(self) -> Mapping[str, JSON]:
        """The values themselves, which must not be changed. Copies of many take long."""
        return cast("_Values", self.values).stored

    def check_json(self) -> None:
        """Raise NotJSONError, which names the value, if one is not plain JSON."""
        for name, value in self._stored.items():
            problem = json_problem(value)
            if problem is not None:
                raise NotJSONError(f"a configuration holds plain JSON only: {name}{problem}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def instructions(self, predictor: str) -> str:
        """Return the instructions of a predictor, by its name as in `named_predictors()`."""
        return cast("str", self.values[f"{predictor}.instructions"])

    def demos(self, predictor: str) -> tuple[Demo, ...]:
        """Return the demos of a predictor, by its name: each a dict of values by field."""
        return tuple(cast("list[dict[str, JSON]]", self.values[f"{predictor}.demos"]))

    @cached_property
    def settings(self) -> Mapping[str, JSON]:
        """Settings by their full names, as in "answer.temperature"."""
        texts = {f"{predictor}.{attribute}" for predictor in self.predictors for attribute in ("instructions", "demos")}
        return {name: value for name, value in self.values.items() if name not in texts}

    def descriptions(self, predictor: str) -> Mapping[str, str]:
        """Return the descriptions of a predictor's fields that a search may rewrite, by field."""
        own = {split_name(name): value for name, value in self.settings.items() if name.endswith(f".{DESCRIPTION}")}
        return {
            attribute.removesuffix(f".{DESCRIPTION}"): cast("str", value)
            for (of, attribute), value in own.items()
            if of == predictor
        }

    def with_instructions(self, predictor: str, instructions: str) -> Configuration:
        """Return a copy with other instructions. Unpaired surrogates, which LMs sometimes write, are escaped."""
        return self.with_values({f"{predictor}.instructions": instructions})

    def with_setting(self, name: str, value: JSON) -> Configuration:
        """Return a copy with the setting `name`, as in "answer.temperature", at `value`.

        Unpaired surrogates in a text, which LMs sometimes write, are escaped.
        """
        return self.with_values({name: value})

    def with_demos(self, predictor: str, demos: Iterable[Demo]) -> Configuration:
        """Return a copy in which `demos`, dicts of values by field, replace those of a predictor."""
        return self.with_values({f"{predictor}.demos": [dict(demo) for demo in demos]})

    def without_demos(self, indexes: Iterable[int]) -> Configuration:
        """Return a copy without the demos at these indexes of every predictor. Indexes beyond the end are ignored."""
        gone = frozenset(indexes)
        if not gone:
            return self
        kept: dict[str, JSON] = {
            f"{predictor}.demos": [dict(demo) for index, demo in enumerate(self.demos(predictor)) if index not in gone]
            for predictor in self.predictors
        }
        return self.with_values(kept)

    def with_values(self, values: Mapping[str, JSON]) -> Configuration:
        """Return a copy with these values, by full name, in place of its own.

        Unpaired surrogates in a text, which LMs sometimes write, are escaped. The copy shares all other values.
        """
        escaped = {name: without_surrogates(v) if isinstance(v, str) else v for name, v in values.items()}
        return Configuration(cast("_Values", self.values).updated(escaped))

    def to_json(self) -> dict[str, JSON]:
        """Return the values as plain JSON; `from_json` is the inverse."""
        return dict(self.values)

    @classmethod
    def from_json(cls, stored: JSON) -> Configuration:
        """Return the configuration that `to_json` wrote."""
        return cls(cast("dict[str, JSON]", stored))

    def diff(self, other: Configuration) -> str:
        """Return a unified diff of each variable that differs from `other`; empty if none does.

        Instructions are compared line by line, demos as one JSON object per line.
        """
        parts: list[str] = []
        for name in dict.fromkeys([*other.values, *self.values]):
            before, after = _lines(other.values.get(name)), _lines(self.values.get(name))
            parts.extend(difflib.unified_diff(before, after, name, name, lineterm="", n=2))
        return "\n".join(parts)


def without_surrogates(value: str) -> str:
    """Return `value` without what can't be written as UTF-8 (half of a surrogate pair)."""
    if value.isascii():
        return str.__str__(value)
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def json_problem(value: object) -> str | None:
    """Return where in `value` something is not plain JSON, as in "[0].question is a set"; None if all of it is."""
    match value:
        case None | bool():
            return None
        case str():
            return None if without_surrogates(value) == value else " holds half of a surrogate pair"
        case int():
            return None if abs(value) <= LARGEST_INTEGER else f" is {value}, more than 64 bits hold"
        case float():
            return None if math.isfinite(value) else f" is {value}"
        case list():
            items = cast("list[object]", value)
            return next((f"[{n}]{p}" for n, item in enumerate(items) if (p := json_problem(item))), None)
        case dict():
            return _problem_of_object(cast("dict[object, object]", value))
        case _:
            return f" is a {type(value).__name__}"


def _problem_of_object(value: dict[object, object]) -> str | None:
    for key, item in value.items():
        if not isinstance(key, str):
            return f" has the key {key!r}, which is not a string"
        if problem := json_problem(item):
            return f".{key}{problem}"
    return None


class _Values(Mapping[str, JSON]):
    """Immutable mapping that copies values on the way in and on the way out."""

    def __init__(self, values: Mapping[str, JSON]) -> None:
        self.stored = values.stored if isinstance(values, _Values) else _copies(values)

    def updated(self, values: Mapping[str, JSON]) -> _Values:
        """Return these values with `values` in place of those of the same names."""
        updated = _Values({})
        updated.stored = {**self.stored, **_copies(values)}
        return updated

    def __getitem__(self, name: str) -> JSON:
        return _copied(self.stored[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def __repr__(self) -> str:
        return repr(self.stored)


def _copies(values: Mapping[str, JSON]) -> dict[str, JSON]:
    return {name: _copied(value) for name, value in values.items()}


def _copied(value: JSON) -> JSON:
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return value


def _lines(value: JSON) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines()
    items: list[Any] = value if isinstance(value, list) else [value]
    return [orjson.dumps(item).decode() for item in items]
