"""The score of a program on examples that no optimizer saw."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from simba_actors import Governor, Retry, Weighted, evaluate
from simba_actors.errors import ConfigError, LMAccessError, LMUnavailableError, MetricError, NoLMError
from simba_actors.search.statistics.intervals import wilson
from tests.support.openai_server import Faults, OpenAIServer
from tests.support.quiz import exact, questions, quiz_script, right_answer
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import PATIENCE

HELD_OUT = questions(12, start=100)


def predict() -> dspy.Predict:
    return dspy.Predict("question -> answer")


def knows_even_balls(ask: Ask) -> dict[str, Any]:
    asked = ask.input("question")
    even = int("".join(filter(str.isdigit, asked))) % 2 == 0
    return {"answer": right_answer(asked) if even else "none"}


async def test_a_score_is_the_mean_with_its_interval() -> None:
    evaluation = await evaluate(predict(), HELD_OUT, exact, lm=ScriptedLM(knows_even_balls))
    assert (evaluation.score, (evaluation.low, evaluation.high)) == (0.5, wilson(0.5, 12))
    assert str(evaluation).startswith("0.500 (0.254 to 0.746) on 12 examples; 12 calls")


async def test_results_are_in_the_order_of_the_examples() -> None:
    lm = ScriptedLM(knows_even_balls, latency=lambda ask: ask.chance("time") / 100)
    evaluation = await evaluate(predict(), HELD_OUT, exact, lm=lm, max_concurrency=5)
    assert [result.score for result in evaluation.results] == [n % 2 == 0 for n in range(100, 112)]
    assert list(evaluation.to_dataframe()["expected.answer"]) == [example.answer for example in HELD_OUT]


async def test_a_program_failure_scores_0_and_keeps_its_error() -> None:
    evaluation = await evaluate(predict(), HELD_OUT[:3], exact, lm=ScriptedLM(lambda ask: "I would rather not say."))
    assert (evaluation.score, evaluation.failures) == (0.0, (0, 1, 2))
    assert "AdapterParseError" in (evaluation.results[0].error or "")


async def test_an_infrastructure_failure_is_tried_again_and_never_a_score() -> None:
    faults = Faults(server_error=0.3)
    with OpenAIServer(knows_even_balls, faults=faults) as provider:
        governor = Governor(retry=Retry(base=0.01))
        evaluation = await evaluate(predict(), HELD_OUT, exact, lm=provider.lm(cache=False), governor=governor)
    assert provider.calls > 12
    assert (evaluation.score, evaluation.failures) == (0.5, ())


async def test_a_refused_key_ends_it_at_once() -> None:
    with OpenAIServer(quiz_script, faults=Faults(status=401)) as provider:
        with pytest.raises(LMAccessError):
            await evaluate(predict(), HELD_OUT, exact, lm=provider.lm(cache=False), max_concurrency=2)
        assert provider.calls <= 2


async def test_an_unreachable_provider_ends_it_after_the_grace_period() -> None:
    governor = Governor(retry=Retry(base=0.01, grace_period=0.05))
    lm = dspy.LM("openai/quiz", api_base="http://127.0.0.1:9/v1", api_key="none", cache=False)
    with pytest.raises(LMUnavailableError):
        await evaluate(predict(), HELD_OUT, exact, lm=lm, governor=governor)


async def test_a_metric_that_raises_ends_it_and_names_the_example() -> None:
    def broken(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        return prediction.answer.upper() == prediction.missing

    with pytest.raises(MetricError, match=r"the metric raised on examples\[0\]"):
        await evaluate(predict(), HELD_OUT, broken, lm=ScriptedLM(knows_even_balls), max_concurrency=1)


async def test_a_metric_that_raises_scores_0_where_asked_to() -> None:
    def broken(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        return bool(prediction.missing)

    lm = ScriptedLM(knows_even_balls)
    evaluation = await evaluate(predict(), HELD_OUT, broken, lm=lm, on_metric_error="score 0")
    assert (evaluation.score, len(evaluation.failures)) == (0.0, 12)


async def test_several_scores_are_averaged_by_objective() -> None:
    def graded(example: dspy.Example, prediction: dspy.Prediction) -> dspy.Prediction:
        return dspy.Prediction(right=example.answer == prediction.answer, brief=1.0)

    objectives = Weighted({"right": 1.0, "brief": 1.0})
    evaluation = await evaluate(predict(), HELD_OUT, graded, lm=ScriptedLM(knows_even_balls), objectives=objectives)
    assert (evaluation.score, evaluation.scores) == (0.75, {"right": 0.5, "brief": 1.0})


async def test_as_many_examples_run_at_a_time_as_asked_for() -> None:
    running: list[int] = [0, 0]
    three = asyncio.Barrier(3)

    class Counting(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = predict()

        async def aforward(self, question: str) -> dspy.Prediction:
            running[0] += 1
            running[1] = max(running[0], running[1])
            await asyncio.wait_for(three.wait(), PATIENCE)
            running[0] -= 1
            return dspy.Prediction(answer=question)

    await evaluate(Counting(), HELD_OUT, exact, lm=ScriptedLM(knows_even_balls), max_concurrency=3)
    assert running == [0, 3]


async def test_a_program_without_predictors_can_be_evaluated() -> None:
    class Rule(dspy.Module):
        def forward(self, question: str) -> dspy.Prediction:
            return dspy.Prediction(answer=right_answer(question))

    evaluation = await evaluate(Rule(), HELD_OUT, exact, lm=ScriptedLM(knows_even_balls))
    assert evaluation.score == 1.0


async def test_arguments_are_checked_before_any_call() -> None:
    lm = ScriptedLM(knows_even_balls)
    with pytest.raises(ConfigError, match="examples is empty"):
        await evaluate(predict(), [], exact, lm=lm)
    with pytest.raises(ConfigError, match="its inputs are"):
        await evaluate(dspy.Predict("text -> answer"), HELD_OUT, exact, lm=lm)
    with pytest.raises(NoLMError):
        await evaluate(predict(), HELD_OUT, exact)
    assert lm.asks == []
