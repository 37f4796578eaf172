"""Differences between two JSON values.

The policy's state has something on each of many programs, and little of it changes from step to step. So a plan is
stored with what changed since the result of the step that had closed last, and a result with what changed since its
plan. Plans that were made before any step had closed are stored with the whole state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, cast

import orjson

from simba_actors.search.rollout import JSON

_Objects: TypeAlias = "dict[tuple[str, ...], dict[str, JSON]]"
"""JSON objects by their path."""


def difference(before: JSON, after: JSON) -> JSON:
    """Return what to change in `before` to get `after`, as values and removals by JSON Pointer (RFC 6901)."""
    changed: dict[str, JSON] = {}
    removed: list[JSON] = []
    for pointer, values in _changes(before, after, ""):
        if values:
            changed[pointer] = values[0]
        else:
            removed.append(pointer)
    return {"set": changed, "remove": removed}


def with_difference(before: JSON, changes: JSON) -> JSON:
    """Return the value `after` for which `changes` is `difference(before, after)`. `before` stays as it is."""
    data = cast("dict[str, Any]", changes)
    if "" in data["set"]:
        return data["set"][""]
    if not isinstance(before, dict):
        return before
    objects: _Objects = {(): dict(before)}
    for pointer in data["remove"]:
        *path, key = _keys(pointer)
        del _own(objects, tuple(path))[key]
    for pointer, value in data["set"].items():
        *path, key = _keys(pointer)
        _own(objects, tuple(path))[key] = value
    return objects[()]


def plan_without_state(plan: JSON, closed: JSON, since: int) -> JSON:
    """Return a plan with the changes of its state in place of the state. `closed` is that after the step `since`."""
    return {**_without_state(plan, closed), "since": since}


def result_without_state(result: JSON, planned: JSON) -> JSON:
    """Return a result with the changes of its state in place of the state. `planned` is that of its plan."""
    return _without_state(result, planned)


def _without_state(stored: JSON, before: JSON) -> dict[str, JSON]:
    data = dict(cast("dict[str, JSON]", stored))
    state = data.pop("state")
    return {**data, "changes": difference(before, state)}


class States:
    """The states of a run's plans and results, which are passed in the order of their steps."""

    def __init__(self) -> None:
        self._closed: dict[int, JSON] = {}  # By step, as far back as plans refer to them.

    def of_plan(self, plan: JSON) -> JSON:
        """Return the state of a stored plan."""
        data = cast("dict[str, Any]", plan)
        if "changes" not in data:
            return data.get("state")
        since: int = data["since"]
        self._closed = {step: state for step, state in self._closed.items() if step >= since}
        return with_difference(self._closed[since], data["changes"])

    def of_result(self, step: int, result: JSON, planned: JSON) -> JSON:
        """Return the state of a step's stored result, given that of its plan."""
        data = cast("dict[str, Any]", result)
        self._closed[step] = with_difference(planned, data["changes"]) if "changes" in data else data.get("state")
        return self._closed[step]


def _changes(before: JSON, after: JSON, pointer: str) -> Iterator[tuple[str, tuple[JSON, ...]]]:
    """Yield the pointer of each change with its new value, or with nothing for a removal."""
    if isinstance(before, dict) and isinstance(after, dict) and _keeps_order(before, after):
        for key in before:
            if key not in after:
                yield _below(pointer, key), ()
        for key, value in after.items():
            if key not in before:
                yield _below(pointer, key), (value,)
            elif value is not before[key]:
                yield from _changes(before[key], value, _below(pointer, key))
    elif orjson.dumps(before) != orjson.dumps(after):  # Not ==, for which 1, 1.0 and True are the same.
        yield pointer, (after,)


def _keeps_order(before: dict[str, JSON], after: dict[str, JSON]) -> bool:
    """Return whether the keys of `after` are those of `before` in their order, some left out, and then new ones."""
    return list(after) == [*(key for key in before if key in after), *(key for key in after if key not in before)]


def _below(pointer: str, key: str) -> str:
    return f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"


def _keys(pointer: str) -> list[str]:
    return [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]


def _own(objects: _Objects, path: tuple[str, ...]) -> dict[str, JSON]:
    """Return the copy of the object at `path`, made when it is first needed."""
    if path not in objects:
        parent = _own(objects, path[:-1])
        parent[path[-1]] = objects[path] = dict(cast("dict[str, JSON]", parent[path[-1]]))
    return objects[path]
