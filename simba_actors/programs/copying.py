"""Copies of a student that can be changed without a trace in it."""

from __future__ import annotations

import copy
from typing import Any

import dspy


def copied(student: dspy.Module) -> dspy.Module:
    """A copy of `student` that uses the same LMs.

    What it holds twice, such as a predictor shared by two modules, its copy holds twice as well. What can't be copied
    (a lock, a client) the copy shares with it, as in `dspy.Module.deepcopy`.
    """
    memo: dict[int, Any] = {id(lm): lm for lm in _lms(student)}
    try:
        return copy.deepcopy(student, dict(memo))
    except Exception:  # noqa: BLE001 - whatever an attribute's own __deepcopy__ raises, and as DSPy does
        return _by_attributes(student, memo)


def _lms(student: dspy.Module) -> list[Any]:
    predictors: Any = student.named_sub_modules(dspy.Predict)
    return [predictor.lm for _, predictor in predictors if predictor.lm is not None]


def _by_attributes(module: dspy.Module, memo: dict[int, Any]) -> dspy.Module:
    if id(module) in memo:
        return memo[id(module)]
    twin: Any = object.__new__(type(module))
    memo[id(module)] = twin
    for name, value in vars(module).items():
        vars(twin)[name] = _of_attribute(value, memo)
    return twin


def _of_attribute(value: Any, memo: dict[int, Any]) -> Any:
    known = dict(memo)
    try:
        result = copy.deepcopy(value, known)
    except Exception:  # noqa: BLE001 - see above
        return _by_attributes(value, memo) if isinstance(value, dspy.Module) else value
    memo.update(known)
    return result
