"""Demos from the labels of examples."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.search.buckets import BatchStatistics
from simba_actors.strategies import AppendLabeledDemos, Declined, StrategyContext
from tests.parity.scenarios import HintThenAnswer

SKY = dspy.Example(question="Which colour is the sky?", answer="blue").with_inputs("question")
GRASS = dspy.Example(question="And the grass?", answer="green").with_inputs("question")


def context(student: dspy.Module, *examples: dspy.Example) -> StrategyContext:
    prompt_model: Any = None
    source = ConfigurationSpace.from_module(student).extract(student)
    return StrategyContext(
        source, source, lambda: student, (), examples or (SKY,), BatchStatistics(0.5, 0.0, 1.0), prompt_model
    )


async def test_the_example_becomes_a_demo_with_its_labels() -> None:
    made = await AppendLabeledDemos().apply(context(dspy.Predict("question -> answer")))
    assert isinstance(made, Configuration)
    assert made.demos("self") == ({"question": "Which colour is the sky?", "answer": "blue"},)


async def test_each_of_several_examples_becomes_a_demo() -> None:
    made = await AppendLabeledDemos().apply(context(dspy.Predict("question -> answer"), SKY, GRASS))
    assert isinstance(made, Configuration)
    assert [demo["answer"] for demo in made.demos("self")] == ["blue", "green"]


async def test_a_long_input_is_cut_as_in_other_demos() -> None:
    made = await AppendLabeledDemos(demo_input_field_maxlen=5).apply(context(dspy.Predict("question -> answer")))
    assert isinstance(made, Configuration)
    assert str(made.demos("self")[0]["question"]).startswith("Which\n\t\t... <TRUNCATED")


@pytest.mark.parametrize("student", [dspy.ChainOfThought("question -> answer"), HintThenAnswer()])
def test_it_declines_where_the_labels_do_not_answer_for_any_predictor(student: dspy.Module) -> None:
    assert isinstance(AppendLabeledDemos().applicable(context(student)), Declined)
