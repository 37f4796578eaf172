"""What a metric may be, and what it may return."""

from __future__ import annotations

import asyncio
import enum
import functools
import math
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import dspy
import numpy as np
import pytest

from simba_actors.errors import LMUnavailableError, MetricError
from simba_actors.evaluation.scoring import MetricResult, Scorer
from simba_actors.runtime.threads import Threads
from tests.support.waiting import PATIENCE

EXAMPLE = dspy.Example(question="1 + 1", answer="2").with_inputs("question")
RIGHT = dspy.Prediction(answer="2")


async def result_of(metric: Any) -> MetricResult:
    return await Scorer(metric, Threads()).score("trainset[0]", EXAMPLE, RIGHT)


def two(example: Any, prediction: Any) -> bool:
    return example.answer == prediction.answer


def with_trace(example: Any, prediction: Any, trace: Any) -> bool:
    return trace is None and two(example, prediction)


def with_optional_trace(example: Any, prediction: Any, trace: Any = None) -> bool:
    return trace is None and two(example, prediction)


def for_gepa(example: Any, prediction: Any, trace: Any, pred_name: Any, pred_trace: Any) -> bool:
    return (trace, pred_name, pred_trace) == (None, None, None) and two(example, prediction)


def with_named_trace(example: Any, prediction: Any, *, trace: Any) -> bool:
    return trace is None and two(example, prediction)


async def asynchronous(example: Any, prediction: Any) -> bool:
    return two(example, prediction)


def weighted(weight: float, example: Any, prediction: Any) -> float:
    return weight * two(example, prediction)


class Callable:
    def __call__(self, example: Any, prediction: Any) -> bool:
        return two(example, prediction)

    def method(self, example: Any, prediction: Any, trace: Any = None) -> bool:
        return two(example, prediction)


class AsyncCallable:
    async def __call__(self, example: Any, prediction: Any) -> bool:
        return two(example, prediction)


def given_a_weight(metric: Any) -> Any:
    @functools.wraps(metric)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return metric(1.0, *args, **kwargs)

    return decorated


def passed_on(metric: Any) -> Any:
    @functools.wraps(metric)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        return metric(*args, **kwargs)

    return decorated


def without_further_arguments(metric: Any) -> Any:
    @functools.wraps(metric)
    def decorated(example: Any, prediction: Any) -> Any:
        return metric(example, prediction, trace=None)

    return decorated


@pytest.mark.parametrize(
    "metric",
    [
        two,
        given_a_weight(weighted),
        passed_on(with_trace),
        passed_on(with_named_trace),
        without_further_arguments(with_named_trace),
        with_trace,
        with_optional_trace,
        for_gepa,
        with_named_trace,
        asynchronous,
        Callable(),
        Callable().method,
        AsyncCallable(),
        functools.partial(weighted, 1.0),
        lambda example, prediction: asynchronous(example, prediction),
        dspy.evaluate.answer_exact_match,
    ],
)
async def test_any_callable_that_dspy_takes_is_a_metric(metric: Any) -> None:
    assert (await result_of(metric)).score == 1


class Grade(enum.IntEnum):
    GOOD = 3


class Points(float):
    pass


@pytest.mark.parametrize(
    ("output", "score", "kind"),
    [
        (True, True, bool),
        (3, 3, int),
        (0.5, 0.5, float),
        (-2.5, -2.5, float),
        (np.float32(0.5), 0.5, float),
        (np.int64(4), 4, int),
        (np.bool_(True), True, bool),
        (np.array(0.25), 0.25, float),
        (Decimal("0.25"), 0.25, float),
        (Fraction(1, 4), 0.25, float),
        (Grade.GOOD, 3, int),
        (Points(0.5), 0.5, float),
        (dspy.Prediction(score=0.75), 0.75, float),
        (dspy.Prediction(score=np.float64(0.75)), 0.75, float),
    ],
)
async def test_a_number_of_any_kind_is_a_score(output: Any, score: float, kind: type) -> None:
    result = await result_of(lambda example, prediction: output)
    assert (result.score, type(result.score)) == (score, kind)


async def test_the_other_fields_of_a_metrics_prediction_are_feedback() -> None:
    result = await result_of(lambda example, prediction: dspy.Prediction(score=1.0, feedback="well done", parts=[1]))
    assert result == MetricResult(1.0, {"feedback": "well done", "parts": [1]})


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "None (NoneType)"),
        ("0.5", "'0.5' (str)"),
        ([1.0], "[1.0] (list)"),
        (np.array([1.0, 2.0]), "(ndarray)"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (np.float64("nan"), "nan"),
        (Decimal("nan"), "NaN"),
        (-1e200, "-1e+200"),
        (10**30, "a whole number of 100 bits"),
        (1 << 16_000, "between -1e+18 and 1e+18"),
        (dspy.Prediction(feedback="good"), "without a score"),
        (dspy.Prediction(score=None), "None (NoneType)"),
    ],
    ids=lambda value: f"{value!r:.40}" if not isinstance(value, int) else f"{value.bit_length()} bits",
)
async def test_anything_else_is_no_score(output: Any, message: str) -> None:
    with pytest.raises(MetricError) as raised:
        await result_of(lambda example, prediction: output)
    assert message in str(raised.value)
    assert "trainset[0]" in str(raised.value)


async def test_a_metric_that_raises_is_the_cause_with_its_own_traceback() -> None:
    def broken(example: Any, prediction: Any) -> float:
        return prediction.typo

    with pytest.raises(MetricError, match=r"trainset\[0\]: AttributeError") as raised:
        await result_of(broken)
    cause = raised.value.__cause__
    assert isinstance(cause, AttributeError)
    traceback, names = cause.__traceback__, list[str]()
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "broken" in names


async def cancels_its_own(example: Any, prediction: Any) -> float:
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    task.cancel()
    return await task


def exits(example: Any, prediction: Any) -> float:
    sys.exit("enough")


@pytest.mark.parametrize(("metric", "message"), [(cancels_its_own, "CancelledError"), (exits, "SystemExit")])
async def test_a_cancellation_or_an_exit_of_the_metrics_own_is_its_defect(metric: Any, message: str) -> None:
    with pytest.raises(MetricError, match=rf"trainset\[0\]: .*{message}"):
        await result_of(metric)


async def test_a_cancelled_call_of_a_metric_ends_as_such() -> None:
    begun = asyncio.Event()

    async def waits(example: Any, prediction: Any) -> float:
        begun.set()
        return await asyncio.Event().wait()

    task = asyncio.create_task(result_of(waits))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("metric", [cancels_its_own, exits])
async def test_a_trial_says_nothing_of_a_metric_that_ends_with_a_cancellation_or_an_exit(metric: Any) -> None:
    await Scorer(metric, Threads()).try_on("trainset[0]", EXAMPLE)


async def test_a_judge_that_can_not_be_reached_is_no_defect_of_the_metric() -> None:
    def judged(example: Any, prediction: Any) -> float:
        raise dspy.LMServerError("overloaded")

    with pytest.raises(LMUnavailableError, match="overloaded"):
        await result_of(judged)


@pytest.mark.parametrize("output", [None, "good", math.nan])
async def test_a_trial_shows_a_metric_that_gives_no_number(output: Any) -> None:
    with pytest.raises(MetricError):
        await Scorer(lambda example, prediction: output, Threads()).try_on("trainset[0]", EXAMPLE)


async def test_a_trial_shows_a_metric_that_is_broken_whatever_it_is_given() -> None:
    def broken(example: Any, prediction: Any) -> float:
        return undefined(example)  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(MetricError, match="NameError"):
        await Scorer(broken, Threads()).try_on("trainset[0]", EXAMPLE)


async def test_a_trial_says_nothing_of_a_metric_that_wants_more_than_labels() -> None:
    await Scorer(lambda example, prediction: len(prediction.reasoning), Threads()).try_on("trainset[0]", EXAMPLE)


class Mute:
    def __repr__(self) -> str:
        raise ValueError("no text")


async def test_a_value_without_a_repr_is_named_by_its_type() -> None:
    with pytest.raises(MetricError, match=r"returned a value whose repr\(\) fails \(Mute\) for trainset\[0\]"):
        await result_of(lambda example, prediction: Mute())


async def test_a_trial_of_a_metric_that_changes_what_it_gets_changes_no_example() -> None:
    def rude(example: dspy.Example, prediction: Any) -> float:
        example.question = prediction.answer = "changed"
        example.kept.append("changed")
        return 1.0

    example = dspy.Example(question="?", answer="red", kept=[]).with_inputs("question")
    await Scorer(rude, Threads()).try_on("trainset[0]", example)
    assert example.toDict() == {"question": "?", "answer": "red", "kept": []}


async def test_a_judge_with_an_async_side_alone_is_a_metric() -> None:
    class Judge(dspy.Module):
        async def aforward(self, example: dspy.Example, prediction: Any) -> float:
            return 0.5

    result = await Scorer(Judge(), Threads()).score("trainset[0]", dspy.Example(), dspy.Prediction())
    assert result.score == 0.5
