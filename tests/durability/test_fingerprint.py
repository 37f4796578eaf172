"""Another program or metric makes another run, so that a result is never returned for other code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dspy
import pydantic
import pytest

from simba_actors.hosting import fingerprint
from simba_actors.hosting.assembly import assemble
from simba_actors.store.records import NewRun
from tests.support.quiz import exact
from tests.support.runs import small_config

SECRET = "planted-0123456789abcdef"  # noqa: S105


def run_of(**changes: Any) -> NewRun:
    return assemble(small_config(Path("simba.db"), **changes), lambda _: None, lambda _: None, lambda _: None).new


def predict(name: str = "answer", *, annotation: Any = str, **field: Any) -> dspy.Module:
    make: Any = dspy.Signature
    output: Any = dspy.OutputField(**field)
    return dspy.Predict(make({"question": (str, dspy.InputField()), name: (annotation, output)}, "Answer."))


class Colour(pydantic.BaseModel):
    name: str


class NamedColour(pydantic.BaseModel):
    name: str = pydantic.Field(description="in English")


NamedColour.__name__ = NamedColour.__qualname__ = "Colour"

STUDENTS: dict[str, dspy.Module] = {
    "plain": predict(),
    "a name": predict("reply"),
    "a type": predict(annotation=Literal["red", "green"]),
    "other values": predict(annotation=Literal["red", "blue"]),
    "a model": predict(annotation=Colour),
    "the model's fields": predict(annotation=NamedColour),
    "a description": predict(desc="one word"),
    "a constraint": predict(annotation=int, ge=0),
    "another constraint": predict(annotation=int, ge=1),
}


def weighted(example: Any, prediction: Any, *, weight: float = 1.0) -> float:
    return weight * exact(example, prediction)


class Weighted:
    def __init__(self, weight: float) -> None:
        self._weight = weight
        self.calls = 0

    def __call__(self, example: Any, prediction: Any) -> float:
        self.calls += 1
        return self._weight * exact(example, prediction)

    def halved(self, example: Any, prediction: Any) -> float:
        return self(example, prediction) / 2


@dataclass(frozen=True, slots=True)
class Slotted:
    weight: float

    def __call__(self, example: Any, prediction: Any) -> float:
        return self.weight * exact(example, prediction)


MAKERS: dict[str, Callable[[float], Any]] = {
    "partial": lambda weight: partial(weighted, weight=weight),
    "partial of an instance": lambda weight: partial(Weighted(weight)),
    "instance": Weighted,
    "dataclass": Slotted,
    "method": lambda weight: Weighted(weight).halved,
}


async def test_students_whose_fields_differ_are_different_runs() -> None:
    runs = [run_of(student=student) for student in STUDENTS.values()]
    assert len({run.run_id for run in runs}) == len({run.fingerprint["student"] for run in runs}) == len(STUDENTS)


@pytest.mark.parametrize("student", STUDENTS.values(), ids=STUDENTS)
async def test_the_same_student_is_the_same_run(student: dspy.Module) -> None:
    assert run_of(student=student) == run_of(student=student.deepcopy())


async def test_predictors_that_share_their_fields_cost_one_signature() -> None:
    class Many(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answers = [dspy.Predict("question -> answer") for _ in range(20)]

        async def aforward(self, question: str) -> dspy.Prediction:
            return await self.answers[0].acall(question=question)

    fingerprint._made_of.cache_clear()
    run_of(student=Many())
    assert fingerprint._made_of.cache_info().misses == 1


async def test_a_run_has_the_id_that_earlier_versions_gave_it() -> None:
    assert run_of().run_id == "predict-b9ebff2651"


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
async def test_metrics_made_with_other_arguments_are_different_runs(make: Callable[[float], Any]) -> None:
    assert run_of(metric=make(1.0)).run_id != run_of(metric=make(100.0)).run_id


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
async def test_a_metric_made_in_the_same_way_is_the_same_run(make: Callable[[float], Any]) -> None:
    assert run_of(metric=make(1.0)) == run_of(metric=make(1.0))


async def test_partials_of_different_functions_are_different_runs() -> None:
    assert run_of(metric=partial(weighted)).run_id != run_of(metric=partial(exact)).run_id


async def test_a_metric_that_counts_its_calls_stays_the_same_run() -> None:
    metric = Weighted(1.0)
    before = run_of(metric=metric)
    metric(dspy.Example(answer="red"), dspy.Prediction(answer="red"))
    assert run_of(metric=metric) == before


async def test_arguments_that_a_metric_is_made_with_are_not_shown() -> None:
    made: list[Any] = [partial(weighted, weight=SECRET), Weighted(SECRET)]  # pyright: ignore[reportArgumentType]
    assert SECRET not in str([run_of(metric=metric) for metric in made])
