"""Functions and weak references of a student lead to the copy's own modules in each copy."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

import dspy
import pytest

from simba_actors import ConfigurationSpace
from simba_actors.programs.copying import copied

QUESTION: Any = "question -> answer"


class Student(dspy.Module):
    """Holds a predictor, and `find`, which returns it by way of a reference."""

    find: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict(QUESTION)
        self.asked: list[str] = []

    def asker(self) -> Any:
        return self.ask

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


class Toolbox:
    """A plain object."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self.find = find


class LockedToolbox(Toolbox):
    """A plain object that can't be copied as a whole."""

    def __init__(self, find: Callable[[], Any], student: Any) -> None:
        super().__init__(find)
        self.lock = threading.Lock()
        self.ask = student.ask


def closure(student: Student) -> Any:
    def find() -> Any:
        return student.ask

    return find


def closure_of_a_part(student: Student) -> Any:
    parts = [student.ask]
    return lambda: parts[0]


def default(student: Student) -> Any:
    return lambda ask=student.ask: ask


def keyword_default(student: Student) -> Any:
    def find(*, ask: Any = student.ask) -> Any:
        return ask

    return find


def decorated(student: Student) -> Any:
    before = student.asker

    @functools.wraps(before)
    def find() -> Any:
        return before()

    return find


def cached_method(student: Student) -> Any:
    return functools.cache(student.asker)


def closure_as_a_method(student: Student) -> Any:
    ask = student.ask
    return MethodType(lambda self: ask, student)  # pyright: ignore[reportUnknownLambdaType]


def weak_reference(student: Student) -> Any:
    return weakref.ref(student.ask)


def within_a_plain_object(student: Student) -> Any:
    return Toolbox(closure(student)).find


def attribute_of_a_plain_object(student: Student) -> Any:
    held: Any = student
    held.toolbox = Toolbox(closure(student))
    return lambda: held.toolbox.find()


def beside_a_lock(student: Student) -> Any:
    held: Any = student
    held.toolbox = LockedToolbox(closure(student), student)
    return lambda: held.toolbox.find()


def recursive(student: Student) -> Any:
    def find(depth: int = 3) -> Any:
        return find(depth - 1) if depth else student.ask

    return find


@pytest.mark.parametrize(
    "refer",
    [
        closure,
        closure_of_a_part,
        default,
        keyword_default,
        decorated,
        cached_method,
        closure_as_a_method,
        weak_reference,
        within_a_plain_object,
        attribute_of_a_plain_object,
        beside_a_lock,
        recursive,
    ],
)
def test_what_leads_to_a_predictor_leads_to_the_copys_own(refer: Callable[[Student], Any]) -> None:
    student: Any = Student()
    student.find = refer(student)
    clone: Any = copied(student)
    assert clone.find() is clone.ask
    assert student.find() is student.ask


def test_a_bound_method_of_a_list_appends_to_the_copys_own() -> None:
    student: Any = Student()
    student.note = student.asked.append
    clone: Any = copied(student)
    clone.note("why?")
    assert (clone.asked, student.asked) == (["why?"], [])


def test_a_function_that_leads_to_no_module_is_shared() -> None:
    lock = threading.Lock()
    student: Any = Student()
    student.find = lambda: lock
    clone: Any = copied(student)
    assert clone.find is student.find


def test_functions_that_share_a_variable_share_it_in_the_copy() -> None:
    student: Any = Student()
    count = 0

    def find() -> Any:
        nonlocal count
        count += 1
        return student.ask

    student.find, student.count = find, lambda: count
    clone: Any = copied(student)
    clone.find()
    assert clone.count() == 1


def test_a_copied_function_looks_like_the_original() -> None:
    student: Any = Student()

    def find(question: str = "why?", *, style: str = "brief") -> Any:
        """Find it."""
        return student.ask

    find.note = "kept"  # type: ignore[attr-defined]
    student.find = find
    clone: Any = copied(student)
    assert clone.find is not find
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__defaults__"):
        assert getattr(clone.find, name) == getattr(find, name)
    assert (clone.find.__kwdefaults__, vars(clone.find)) == (find.__kwdefaults__, vars(find))


class Researcher(dspy.Module):
    """Has a tool that is made in `__init__` and uses another predictor of it."""

    def __init__(self) -> None:
        super().__init__()
        self.rewrite: Any = dspy.Predict("question -> query")

        def search(question: str) -> Any:
            return self.rewrite.signature.instructions

        self.agent = dspy.ReAct(QUESTION, tools=[search])

    def forward(self, question: str) -> Any:
        return self.agent(question=question)


def test_a_tool_made_in_init_runs_with_the_programs_instructions() -> None:
    student = Researcher()
    space = ConfigurationSpace.from_module(student)
    program: Any = space.apply(space.extract(student).with_instructions("rewrite", "Shorten."), student)
    assert program.agent.tools["search"].func("why?") == "Shorten."
