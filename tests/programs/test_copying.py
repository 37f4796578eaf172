"""Every copy of a student has its own predictors, wherever the student holds them."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import dspy
import pytest

from simba_actors.errors import ConfigError
from simba_actors.programs.copying import Copier, copied, copied_example
from simba_actors.programs.object_graph import LARGEST_ARRAY, lms_within, objects_within

QUESTION: Any = "question -> answer"


def answer() -> Any:
    return dspy.Predict("question -> answer")


class Client:
    """Can't be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def search(self, query: str) -> str:
        return query


class Agent:
    """A plain object that holds a module beside something that can't be copied."""

    def __init__(self) -> None:
        self.client = Client()
        self.ask = answer()


class Holder(dspy.Module):
    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held
        self.lock = threading.Lock()


def agent() -> Any:
    return dspy.ReAct(QUESTION, tools=[Client().search])


HOLDERS: list[Callable[[], Any]] = [
    agent,
    lambda: [agent(), agent()],
    lambda: (agent(), Client()),
    lambda: {"a": agent(), "b": Client()},
    lambda: {"a": [agent(), {"b": (Client(), agent())}]},
    lambda: OrderedDict(a=agent(), b=Client()),
    lambda: defaultdict(list, a=[agent(), Client()]),
    lambda: Holder([agent(), Client()]),
]


class Named(NamedTuple):
    agent: Any
    client: Any


@dataclasses.dataclass
class Data:
    agent: Any
    client: Client


@dataclasses.dataclass(slots=True)
class Slotted:
    agent: Any
    client: Client


@pytest.mark.parametrize(
    "wrap",
    [
        lambda part, client: deque([part, client]),
        lambda part, client: {part, client},
        lambda part, client: Named(part, client),
        lambda part, client: Data(part, client),
        lambda part, client: [Data([part], client)],
        lambda part, client: Slotted(part, client),
        lambda part, client: frozenset([part, client]),
        lambda part, client: type("Own", (list,), {})([part, client]),
    ],
)
def test_no_container_shares_a_module(wrap: Callable[[Any, Any], Any]) -> None:
    own = answer()
    clone = copied(Holder([wrap(own, Client())]))
    (part,) = [part for part in objects_within(clone) if isinstance(part, dspy.Predict)]
    assert part is not own


@pytest.mark.parametrize("make", HOLDERS)
def test_a_copy_shares_no_predictor_with_its_student(make: Callable[[], Any]) -> None:
    student: Any = Holder(make())
    clone: Any = copied(student)
    own, copies = (dict(module.named_sub_modules(dspy.Predict)) for module in (student, clone))
    assert list(copies) == list(own) != []
    assert not {*map(id, own.values())} & {*map(id, copies.values())}


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: [a], lambda a: partial(a.ask, 1), lambda a: {"x": (a,)}])
def test_a_module_in_a_plain_object_is_copied_too(wrap: Callable[[Any], Any]) -> None:
    held = Agent()
    student = Holder([wrap(held), answer()])
    parts = {id(part) for part in Copier(student).copy()[1].values() if isinstance(part, dspy.Predict)}
    assert id(held.ask) not in parts
    assert len(parts) == 2


def test_what_can_not_be_copied_is_shared() -> None:
    client = Client()
    clone: Any = copied(Holder([answer(), client]))
    assert clone.held[1] is client


def test_a_method_of_the_student_in_a_tool_is_the_copys_own() -> None:
    class WithTool(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()
            self.notes: list[str] = []
            self.agent = dspy.ReAct(QUESTION, tools=[self.note])

        def note(self, text: str) -> str:
            self.notes.append(text)
            return text

    student = WithTool()
    clone: Any = copied(student)
    clone.agent.tools["note"](text="hello")
    assert (student.notes, clone.notes) == ([], ["hello"])


def test_a_predictor_held_twice_is_held_twice_by_the_copy() -> None:
    shared = answer()
    clone: Any = copied(Holder([shared, {"again": shared}, Client()]))
    assert clone.held[0] is clone.held[1]["again"]


def test_lms_are_shared_wherever_they_are_held() -> None:
    lm = dspy.LM("openai/none")
    student: Any = Holder({"judge": lm, "ask": answer()})
    student.held["ask"].lm = lm
    clone: Any = copied(student)
    assert lms_within(student) == lms_within(clone) == [lm]


def test_an_lm_can_be_replaced_wherever_it_is_held() -> None:
    lm, other = dspy.LM("openai/none"), dspy.LM("openai/other")
    student = Holder([lm, {"a": lm}, answer()])
    clone, _ = Copier(student, {id(lm): other}).copy()
    assert lms_within(clone) == [other]


def test_a_predictor_that_copies_itself_as_itself_is_refused_by_name() -> None:
    class Stubborn(dspy.Predict):
        def __deepcopy__(self, memo: dict[int, Any]) -> Stubborn:
            return self

    with pytest.raises(ConfigError, match=r"Holder: self\.held\[a\] can't be copied"):
        copied(Holder({"a": Stubborn("question -> answer")}))


def test_a_large_array_is_taken_for_data_and_shared() -> None:
    np = pytest.importorskip("numpy")
    small, large = np.zeros(8), np.zeros(LARGEST_ARRAY)
    clone: Any = copied(Holder([answer(), small, large]))
    assert (clone.held[1] is small, clone.held[2] is large) == (False, True)


@pytest.mark.parametrize("kind", [dspy.Example, dspy.Prediction])
def test_a_copy_of_an_example_keeps_its_inputs_and_shares_no_value(kind: Any) -> None:
    example: Any = kind(history=[{"q": "a"}], answer="x").with_inputs("history")
    clone: Any = copied_example(example)
    clone.history.append("more")
    assert example.history == [{"q": "a"}]
    assert set(clone.inputs().keys()) == {"history"}


def test_many_copies_in_a_row_hold_what_the_student_holds() -> None:
    """deepcopy's memo must not outlive what it names."""
    student = Holder([answer(), Client(), {"x": Agent()}, [agent() for _ in range(3)]])
    copier = Copier(student)
    for _ in range(50):
        clone: Any = copier.copy()[0]
        assert [name for name, _ in clone.named_predictors()] == [name for name, _ in student.named_predictors()]
        assert isinstance(clone.held[2]["x"].client, Client)


class Proxy:
    """Stands for a missing object, and raises an error on any access."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("working outside of request context")


def test_a_proxy_and_a_mock_do_not_matter() -> None:
    student: Any = Holder([answer(), Proxy(), MagicMock()])
    clone: Any = copied(student)
    assert type(clone.held[1]) is Proxy


@pytest.mark.parametrize(
    "data",
    [["passage"] * 200_000, [{"text": "passage"}] * 2_000, {number: {"text": "passage"} for number in range(2_000)}],
    ids=["texts", "list", "dict"],
)
def test_a_large_container_is_taken_for_data_and_shared(data: Any) -> None:
    clone: Any = copied(Holder([answer(), data]))
    assert clone.held[1] is data


def test_a_large_container_of_modules_is_not() -> None:
    part = answer()
    clone: Any = copied(Holder([part, *[{"text": "passage"}] * 2_000]))
    assert clone.held[0] is not part


class CopiesItself(dspy.Module):
    """Makes its copies by itself, with a new predictor in each."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = answer()

    def __deepcopy__(self, memo: dict[int, Any]) -> CopiesItself:
        return CopiesItself()


def test_the_predictors_of_a_module_that_copies_itself_are_known() -> None:
    student = CopiesItself()
    clone, copy_of = Copier(student).copy()
    assert copy_of[id(student.ask)] is clone.named_predictors()[0][1]


class WithSlots(dspy.Module):
    __slots__ = ("notes", "part", "unset")

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.part = answer()


def test_slots_are_copied_as_attributes_are() -> None:
    student: Any = WithSlots()
    clone: Any = copied(student)
    assert clone.notes == []
    assert clone.notes is not student.notes
    assert clone.part is not student.part
    assert not hasattr(clone, "unset")
