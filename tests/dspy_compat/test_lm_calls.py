"""LM calls are made on the LM that a route names."""

from __future__ import annotations

import functools
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest

from simba_actors.dspy_compat.lm_calls import route_lm_calls
from tests.support.quiz import legible_script
from tests.support.scripted_lm import ScriptedLM


@contextmanager
def routed(monkeypatch: pytest.MonkeyPatch, one: Any, other: Any) -> Generator[list[Any]]:
    """For a while calls of `one` are made on `other`. Yields the LMs that were asked about."""
    asked: list[Any] = []

    def route(lm: Any) -> Any:
        asked.append(lm)
        return other if lm is one else lm

    with monkeypatch.context() as patch:
        # So that both methods are put back.
        patch.setattr(dspy.BaseLM, "__call__", dspy.BaseLM.__call__)
        patch.setattr(dspy.BaseLM, "acall", dspy.BaseLM.acall)
        route_lm_calls(route)
        yield asked


def lms() -> tuple[Any, Any]:
    return ScriptedLM(legible_script), ScriptedLM(legible_script)


async def test_a_call_is_made_on_the_lm_that_the_route_names(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = lms()
    with routed(monkeypatch, one, other):
        one("Respond with `answer`.")
        await one.acall("Respond with `answer`.")
    assert (len(one.asks), len(other.asks)) == (0, 2)


async def test_a_predictors_call_is_too_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = lms()
    with routed(monkeypatch, one, other), dspy.context(lm=one):
        predict = dspy.Predict("question -> answer")
        predict(question="?")
        await predict.acall(question="?")
    assert (len(one.asks), len(other.asks)) == (0, 2)


async def test_a_call_stays_where_the_route_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = lms()
    with routed(monkeypatch, one, other) as asked:
        other("Respond with `answer`.")
    assert (asked, len(other.asks)) == ([other], 1)


async def test_a_class_with_a_call_of_its_own_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(ScriptedLM):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    one, (other, _) = Own(legible_script), lms()
    with routed(monkeypatch, one, other) as asked:
        one("Respond with `answer`.")
    assert (asked, len(one.asks), len(other.asks)) == ([], 1, 0)


async def test_somebody_else_may_watch_calls_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = lms()
    seen: list[Any] = []
    with routed(monkeypatch, one, other):
        call: Any = dspy.BaseLM.__call__

        @functools.wraps(call)
        def watching(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(self)
            return call(self, *args, **kwargs)

        monkeypatch.setattr(dspy.BaseLM, "__call__", watching)
        one("Respond with `answer`.")
        monkeypatch.undo()
    assert (len(one.asks), len(other.asks), seen[0]) == (0, 1, one)


async def test_a_route_is_laid_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = lms()
    with routed(monkeypatch, one, other):
        before: Any = dspy.BaseLM.__call__
        route_lm_calls(before._simba_actors_route)
        assert dspy.BaseLM.__call__ is before
