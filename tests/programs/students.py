"""Generated students: nested modules, shared predictors, subclasses of Predict, frozen parts, demos of many types."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import dspy
import pydantic
from hypothesis import strategies as st


class Place(pydantic.BaseModel):
    name: str
    height: float


class Locate(dspy.Signature):
    """Find the place."""

    question: str = dspy.InputField()
    tags: list[str] = dspy.InputField()
    place: Place = dspy.OutputField()
    kind: Literal["hill", "lake"] = dspy.OutputField()


class Terse(dspy.Predict):
    """A user's own kind of predictor."""

    def forward(self, **kwargs: Any) -> Any:
        return super().forward(**kwargs)


class Node(dspy.Module):
    """A module with the given parts, named part_0, part_1, …"""

    def __init__(self, parts: list[Any]) -> None:
        super().__init__()
        for number, part in enumerate(parts):
            setattr(self, f"part_{number}", part)


text = st.text(st.characters(codec="utf-8"), max_size=12)
places = st.builds(Place, name=text, height=st.floats(-9, 9))
answers = st.fixed_dictionaries({"question": text, "answer": text})
located = st.fixed_dictionaries(
    {"question": text, "tags": st.lists(text, max_size=2), "place": places, "kind": st.sampled_from(["hill", "lake"])}
)


LEAVES: list[tuple[Callable[[], Any], st.SearchStrategy[Any]]] = [
    (lambda: dspy.Predict("question -> answer"), answers),
    (lambda: dspy.ChainOfThought("question -> answer"), answers),
    (lambda: Terse("question -> answer"), answers),
    (lambda: dspy.Predict(Locate), located),
]


@dataclass(frozen=True)
class Leaf:
    """A recipe for a predictor. DSPy draws random numbers for each, so it is made within the test."""

    make: Callable[[], Any]
    instructions: str
    demos: list[dict[str, Any]]

    def __call__(self) -> Any:
        module = self.make()
        predictor = module.predictors()[0]
        predictor.signature = predictor.signature.with_instructions(self.instructions)
        predictor.demos = [dspy.Example(**demo) for demo in self.demos]
        return module


@dataclass(frozen=True)
class Recipe:
    """A recipe for a student. `inner` and `outer` are indices of leaves, then of a dict and of a list of leaves."""

    leaves: list[Leaf]
    inner: list[int]
    outer: list[int]
    locked: bool
    frozen: bool

    def __call__(self) -> dspy.Module:
        leaves = [leaf() for leaf in self.leaves]
        parts = [*leaves, {"first": leaves[0]}, list(leaves)]
        student = Node(
            [Node([parts[n % len(parts)] for n in self.inner]), *(parts[n % len(parts)] for n in self.outer)]
        )
        if self.locked:
            vars(student)["lock"] = threading.Lock()
        leaves[0]._compiled = self.frozen
        if not student.predictors():
            leaves[0]._compiled = False
        return student


@st.composite
def _leaves(draw: st.DrawFn) -> Leaf:
    make, demos = draw(st.sampled_from(LEAVES))
    return Leaf(make, draw(text.filter(str.strip)), draw(st.lists(demos, max_size=2)))


_numbers = st.lists(st.integers(0, 5), min_size=1, max_size=4)
recipes = st.builds(
    Recipe, st.lists(_leaves(), min_size=1, max_size=4), _numbers, _numbers, locked=st.booleans(), frozen=st.booleans()
)


def state(program: Any) -> list[Any]:
    """Return everything in a program that a configuration covers."""
    return [
        (name, id(predictor), predictor.signature.instructions, [demo.toDict() for demo in predictor.demos])
        for name, predictor in program.named_predictors()
    ]
