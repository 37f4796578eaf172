"""Help for users of the public classes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
from typing import Any

import pytest

from simba_actors import SIMBA, Budget, Governor, Limits, LiveProgram, OptimizerConfig, Progress, RayExecutor, Retry


@pytest.mark.parametrize(
    ("kind", "name", "suggestion"),
    [
        (OptimizerConfig, "max_step", "did you mean max_steps?"),
        (OptimizerConfig, "max_call", "did you mean budget=Budget(max_calls=…)?"),
        (OptimizerConfig, "num_threads", "did you mean max_concurrency?"),
        (OptimizerConfig, "reflection_lm", "did you mean prompt_model?"),
        (
            OptimizerConfig,
            "requests_per_minute",
            "did you mean governor=Governor(limits={…: Limits(requests_per_minute=…)})?",
        ),
        (RayExecutor, "num_workers", "did you mean workers?"),
        (OptimizerConfig, "zzz", "help(OptimizerConfig) lists all of them"),
        (Budget, "max_call", "did you mean max_calls?"),
        (Budget, "max_usd", "did you mean max_cost?"),
        (Limits, "request_per_minute", "did you mean requests_per_minute?"),
        (Limits, "rpm", "did you mean requests_per_minute?"),
        (Limits, "most_at_a_time", "did you mean max_concurrency?"),
        (Retry, "attempt", "did you mean attempts?"),
        (Governor, "limit", "did you mean limits?"),
        (LiveProgram, "chanel", "did you mean channel?"),
        (SIMBA, "metic", "did you mean metric?"),
    ],
)
def test_an_unknown_argument_suggests_the_nearest_name(kind: Any, name: str, suggestion: str) -> None:
    with pytest.raises(TypeError) as caught:
        kind(**{name: 3})
    assert str(caught.value) == f"{kind.__name__} has no argument {name!r}: {suggestion}"


def test_a_class_is_otherwise_as_before() -> None:
    budget = Budget(max_calls=3)
    assert list(inspect.signature(Budget).parameters) == [field.name for field in dataclasses.fields(Budget)]
    assert dataclasses.replace(budget, max_calls=4) == Budget(max_calls=4)
    assert pickle.loads(pickle.dumps(budget)) == copy.deepcopy(budget) == budget


def test_a_missing_argument_is_named_as_python_does() -> None:
    with pytest.raises(TypeError, match="missing 4 required keyword-only arguments"):
        OptimizerConfig()  # pyright: ignore[reportCallIssue]


def test_help_lists_all_fields_also_inherited_ones() -> None:
    listed = re.findall(r"^ {8}(\w+): ", Progress.__doc__ or "", re.MULTILINE)
    assert listed == list(inspect.signature(Progress).parameters)
