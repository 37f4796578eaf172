"""Predictors are identified by name, also where copies of them ran."""

from __future__ import annotations

import copy
from typing import Any

import dspy

from simba_actors.dspy_compat.predictor_names import PredictorNames, tell_apart


class Pair(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.second = copy.deepcopy(self.first)


def test_a_predictor_has_the_name_that_dspy_gives_it() -> None:
    student: Any = dspy.ChainOfThought("question -> answer")
    assert PredictorNames(student).of(student.predict) == "predict"


def test_a_copy_has_the_name_of_its_original() -> None:
    student: Any = dspy.ChainOfThought("question -> answer")
    assert PredictorNames(student).of(student.deepcopy().predict) == "predict"


def test_another_programs_predictor_has_none() -> None:
    names = PredictorNames(dspy.ChainOfThought("question -> answer"))
    assert names.of(dspy.Predict("question -> answer")) is None
    assert names.of(object()) is None


def test_copies_of_predictors_that_are_copies_of_each_other_have_none_unless_told_apart() -> None:
    pair: Any = Pair()
    assert PredictorNames(pair).of(pair.deepcopy().second) is None
    tell_apart(pair)
    assert PredictorNames(pair).of(pair.deepcopy().second) == "second"


def test_names_can_be_limited() -> None:
    pair: Any = Pair()
    tell_apart(pair)
    names = PredictorNames(pair, ["first"])
    assert (names.of(pair.first), names.of(pair.second), names.of(pair.deepcopy().second)) == ("first", None, None)
