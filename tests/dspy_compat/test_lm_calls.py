"""LM calls are made on the LM that a route names."""

from __future__ import annotations

import functools
import gc
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Optimizer
from simba_actors.dspy_compat import lm_calls
from simba_actors.dspy_compat.lm_calls import route_lm_calls
from tests.support.interruption import interrupted_before_line
from tests.support.quiz import legible_script
from tests.support.runs import small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE, until


@contextmanager
def routed(one: Any, other: Any) -> Generator[list[Any]]:
    """For a while calls of `one` are made on `other`. Yields the LMs that were asked about."""
    asked: list[Any] = []

    def route(lm: Any) -> Any:
        asked.append(lm)
        return other if lm is one else lm

    undo = route_lm_calls(route)
    try:
        yield asked
    finally:
        undo()


def lms() -> tuple[Any, Any]:
    return ScriptedLM(legible_script), ScriptedLM(legible_script)


async def test_a_call_is_made_on_the_lm_that_the_route_names() -> None:
    one, other = lms()
    with routed(one, other):
        one("Respond with `answer`.")
        await one.acall("Respond with `answer`.")
    assert (len(one.asks), len(other.asks)) == (0, 2)


async def test_a_predictors_call_is_made_on_the_lm_that_the_route_names_without_a_warning() -> None:
    one, other = lms()
    with routed(one, other), dspy.context(lm=one):
        predict = dspy.Predict("question -> answer")
        predict(question="?")
        await predict.acall(question="?")
    assert (len(one.asks), len(other.asks)) == (0, 2)


async def test_a_call_stays_where_the_route_leaves_it() -> None:
    one, other = lms()
    with routed(one, other) as asked:
        other("Respond with `answer`.")
    assert (asked, len(other.asks)) == ([other], 1)


class WithCallOfItsOwn(ScriptedLM):
    """Counts its calls."""

    calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().__call__(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return await super().acall(*args, **kwargs)


async def test_a_class_with_a_call_of_its_own_is_asked_about_once() -> None:
    one, other = WithCallOfItsOwn(legible_script), WithCallOfItsOwn(legible_script)
    with routed(one, other) as asked:
        one("Respond with `answer`.")
        await one.acall("Respond with `answer`.")
    assert asked == [one, other, one, other]  # The other one's call asks as well.
    assert (one.calls, len(one.asks), other.calls, len(other.asks)) == (0, 0, 2, 2)


async def test_a_class_that_is_made_while_calls_are_routed_is_asked_about_too() -> None:
    (_, other), seen = lms(), list[Any]()
    undo = route_lm_calls(lambda lm: seen.append(lm) or (other if isinstance(lm, WithCallOfItsOwn) else lm))
    try:

        class Late(WithCallOfItsOwn):
            def __call__(self, *args: Any, **kwargs: Any) -> Any:
                return super().__call__(*args, **kwargs)

        one = Late(legible_script)
        one("Respond with `answer`.")
    finally:
        undo()
    assert (one.calls, len(one.asks), len(other.asks)) == (0, 0, 1)


async def test_somebody_else_may_watch_calls_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = lms()
    seen: list[Any] = []
    with routed(one, other):
        call: Any = dspy.BaseLM.__call__

        @functools.wraps(call)
        def watching(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(self)
            return call(self, *args, **kwargs)

        monkeypatch.setattr(dspy.BaseLM, "__call__", watching)
        one("Respond with `answer`.")
        monkeypatch.undo()
    assert (len(one.asks), len(other.asks), seen[0]) == (0, 1, one)


@pytest.fixture
def no_other_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the routes of other tests apart: their executors are freed at any time, and then restore DSPy's methods."""
    monkeypatch.setattr(lm_calls, "_routing", lm_calls._Routing())
    for name in ("__call__", "acall"):
        monkeypatch.setattr(dspy.BaseLM, name, passed_on(getattr(dspy.BaseLM, name)))


def passed_on(method: Any) -> Any:
    @functools.wraps(method)
    def own(lm: Any, *args: Any, **kwargs: Any) -> Any:
        return method(lm, *args, **kwargs)

    return own


@pytest.mark.usefixtures("no_other_routes")
def test_dspys_methods_are_restored_when_the_last_route_is_undone() -> None:
    def own_methods() -> tuple[Any, Any, Any]:
        return vars(dspy.BaseLM)["__call__"], vars(dspy.BaseLM)["acall"], vars(WithCallOfItsOwn)["__call__"]

    before = own_methods()
    undo_first, undo_second = route_lm_calls(lambda lm: lm), route_lm_calls(lambda lm: lm)
    assert own_methods() != before
    undo_first()
    undo_first()
    assert own_methods() != before
    undo_second()
    assert own_methods() == before


@pytest.mark.usefixtures("no_other_routes")
@pytest.mark.parametrize("line", range(1, 6))
def test_a_route_holds_although_the_only_other_one_is_freed_while_it_is_added(line: int) -> None:
    before = vars(dspy.BaseLM)["__call__"]
    with interrupted_before_line(line, lm_calls._Routing.add, route_lm_calls(lambda lm: lm)):
        undo = route_lm_calls(lambda lm: lm)
    assert vars(dspy.BaseLM)["__call__"] is not before
    undo()
    assert vars(dspy.BaseLM)["__call__"] is before


@pytest.mark.usefixtures("no_other_routes")
def test_a_method_that_could_not_be_restored_asks_once_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = lms()
    with monkeypatch.context() as somebody:
        undo = route_lm_calls(lambda lm: lm)
        somebody.setattr(dspy.BaseLM, "__call__", passed_on(vars(dspy.BaseLM)["__call__"]))
        undo()
    with routed(one, other) as asked:
        other("Respond with `answer`.")
    assert asked == [other]


@pytest.mark.usefixtures("no_other_routes")
async def test_dspys_methods_are_restored_when_a_run_has_ended(tmp_path: Path) -> None:
    before = vars(dspy.BaseLM)["__call__"]
    async with Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        assert vars(dspy.BaseLM)["__call__"] is not before
        await optimizer.result(PATIENCE)

    def are_restored() -> bool:
        gc.collect()  # A thread that ends may still hold something of the run.
        return vars(dspy.BaseLM)["__call__"] is before

    await until(are_restored)
