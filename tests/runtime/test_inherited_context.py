"""A context variable reaches threads that are started without the context."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from simba_actors.runtime import inherited_context
from simba_actors.runtime.inherited_context import inherit_in_threads
from tests.support.interruption import interrupted_before_line
from tests.support.waiting import PATIENCE

variable: ContextVar[str | None] = ContextVar("variable", default=None)


@pytest.fixture(autouse=True)
def inheriting(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setattr(inherited_context, "_inheritance", inherited_context._Inheritance())
    # Executors of other tests are freed at any time, and then restore the methods that they have replaced.
    for owner, name in ((threading.Thread, "start"), (ThreadPoolExecutor, "submit")):
        monkeypatch.setattr(owner, name, passed_on(getattr(owner, name)))
    undo = inherit_in_threads(variable)
    token = variable.set("mine")
    yield
    variable.reset(token)
    undo()


def passed_on(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def own(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return own


def seen_in(thread_class: type[threading.Thread] = threading.Thread) -> str | None:
    seen: list[str | None] = []
    thread = thread_class(target=lambda: seen.append(variable.get()))
    thread.start()
    thread.join(PATIENCE)
    return seen[0]


def test_a_new_thread_has_the_variable() -> None:
    assert seen_in() == "mine"


def test_a_new_thread_has_the_variable_if_its_class_overrides_run() -> None:
    class Own(threading.Thread):
        def run(self) -> None:
            super().run()

    assert seen_in(Own) == "mine"


def test_a_thread_pool_has_the_variable_for_the_work_alone() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(variable.get).result() == "mine"
        token = variable.set(None)
        assert pool.submit(variable.get).result() is None
        variable.reset(token)
        assert list(pool.map(lambda _: variable.get(), range(2))) == ["mine", "mine"]


def test_work_of_a_pool_takes_its_arguments_and_raises_its_errors() -> None:
    def divide(a: int, *, by: int) -> float:
        return a / by

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(divide, 4, by=2).result() == 2
        with pytest.raises(ZeroDivisionError):
            pool.submit(divide, 4, by=0).result()


def test_a_thread_that_has_ended_is_freed_at_once() -> None:
    gc.disable()
    try:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join(PATIENCE)
        reference = weakref.ref(thread)
        del thread
        assert reference() is None
    finally:
        gc.enable()


def test_pythons_methods_are_restored_when_the_last_one_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inherited_context, "_inheritance", inherited_context._Inheritance())

    def methods() -> tuple[Any, Any]:
        return threading.Thread.start, ThreadPoolExecutor.submit

    before = methods()
    undo_first, undo_second = inherit_in_threads(variable), inherit_in_threads(variable)
    undo_first()
    undo_first()
    assert methods() != before
    undo_second()
    assert methods() == before


@pytest.mark.parametrize("line", range(1, 6))
def test_a_variable_is_handed_on_although_the_only_other_one_is_freed_while_it_is_added(
    line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inherited_context, "_inheritance", inherited_context._Inheritance())
    before = threading.Thread.start
    with interrupted_before_line(line, inherited_context._Inheritance.add, inherit_in_threads(variable)):
        undo = inherit_in_threads(variable)
    assert threading.Thread.start is not before
    undo()
    assert threading.Thread.start is before


def test_a_class_in_the_place_of_pythons_thread_may_inherit_its_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """gevent puts such a class there."""

    class Patched(threading.Thread):
        pass

    monkeypatch.setattr(inherited_context, "_inheritance", inherited_context._Inheritance())
    monkeypatch.setattr(threading, "Thread", Patched)
    undo = inherit_in_threads(variable)
    assert seen_in(Patched) == "mine"
    undo()
    assert "start" not in vars(Patched)
