"""Whichever of forward and aforward is nearer runs."""

from __future__ import annotations

import asyncio
import functools
import types
from typing import Any

import dspy
import pytest

from simba_actors.programs.entry_points import method_of, runs_async, sync_call, takes


class Shout(dspy.ChainOfThought):
    def forward(self, **inputs: Any) -> Any:
        return "SHOUTED"


class AsyncShout(dspy.ChainOfThought):
    async def aforward(self, **inputs: Any) -> Any:
        return "SHOUTED"


class Quieter(Shout):
    async def aforward(self, **inputs: Any) -> Any:
        return "quiet"


class Both(dspy.Module):
    def __init__(self, part: Any = None) -> None:
        super().__init__()
        self.part = part or dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return "sync"

    async def aforward(self, question: str) -> Any:
        return "async"


class Called(dspy.ChainOfThought):
    def __call__(self, **inputs: Any) -> Any:
        return "called"


class Neither(dspy.Module):
    pass


def on_the_instance() -> Any:
    student: Any = dspy.ChainOfThought("question -> answer")
    student.forward = types.MethodType(lambda self, **inputs: "set", student)
    return student


@pytest.mark.parametrize(
    ("student", "expected"),
    [
        (dspy.Predict("question -> answer"), True),
        (dspy.ChainOfThought("question -> answer"), True),
        (Shout("question -> answer"), False),
        (AsyncShout("question -> answer"), True),
        (Quieter("question -> answer"), True),
        (Called("question -> answer"), False),
        (on_the_instance(), False),
        (Both(), True),
        (Both([{"deep": Shout("question -> answer")}]), False),
        (dspy.BestOfN(dspy.Predict("question -> answer"), 2, lambda args, pred: 1.0, 1.0), False),
        (Neither(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, dspy.Module) else "",
)
def test_the_nearer_method_counts(student: dspy.Module, expected: bool) -> None:
    assert runs_async(student) is expected


def test_a_forward_in_a_predictor_counts_that_aforward_would_pass_by() -> None:
    student: Any = dspy.ChainOfThought("question -> answer")

    class Own(dspy.Predict):
        def forward(self, **inputs: Any) -> Any:
            return super().forward(**inputs)

    student.predict = Own("question -> answer")
    assert not runs_async(student)


@pytest.mark.parametrize("within_a_loop", [False, True])
def test_an_async_method_can_be_called_where_there_is_no_await(within_a_loop: bool) -> None:
    student: Any = AsyncShout("question -> answer")
    call = sync_call(student, student, student.acall)

    async def call_on_loop() -> Any:
        return call(question="?")

    assert (asyncio.run(call_on_loop()) if within_a_loop else call(question="?")) == "SHOUTED"


def test_inputs_are_checked_against_the_method_that_runs() -> None:
    class Asks(dspy.Predict):
        def forward(self, question: str, extra: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            return super().forward(question=question)

    method = method_of(Asks("question -> answer"))
    assert takes(method, {"question", "extra"}) is None
    assert "missing a required argument: 'extra'" in (takes(method, {"question"}) or "")


def test_a_decorator_may_add_an_input() -> None:
    def briefly(method: Any) -> Any:
        @functools.wraps(method)
        def decorated(self: Any, **inputs: Any) -> Any:
            return method(self, style="brief", **inputs)

        return decorated

    class Asks(dspy.Predict):
        @briefly
        def forward(self, question: str, style: str) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            return super().forward(question=question)

    assert takes(method_of(Asks("question -> answer")), {"question"}) is None


def test_a_module_without_a_method_has_none() -> None:
    assert method_of(Neither()) is None
