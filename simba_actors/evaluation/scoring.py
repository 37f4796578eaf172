"""Asking the metric, and taking nothing for a score that is none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import dspy
import numpy as np

from simba_actors.errors import InfrastructureError, LMUnavailableError, MetricError
from simba_actors.lm.failures import infrastructure_cause
from simba_actors.lm.secrets import Secrets
from simba_actors.programs import to_json_value
from simba_actors.runtime.exception_isolation import isolated
from simba_actors.runtime.fair_scheduler import FairScheduler
from simba_actors.runtime.quick_calls import QuickCalls
from simba_actors.runtime.threads import Threads
from simba_actors.search.objectives import Objectives
from simba_actors.search.trajectory import JSON

SURELY_WRONG = (NameError, ImportError, NotImplementedError)
"""Raised by a metric, these say that it is broken whatever it was given."""

LARGEST_SCORE = 1e18
"""A whole number of that size fits into 64 bits, and the squares of many into a float."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The metric's number, in its own type as far as JSON has it, and what else it said."""

    score: float
    feedback: dict[str, JSON]


class Scorer:
    """Calls a metric of any shape that DSPy takes.

    Sync metrics run in a thread, so that a slow one holds up nobody. The context is carried over. Errors tell no
    `secrets`.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        threads: Threads,
        objectives: Objectives | None = None,
        secrets: Secrets | None = None,
        scheduler: FairScheduler | None = None,
    ) -> None:
        self._objectives = objectives
        self._secrets = secrets or Secrets()
        self._metric = partial(metric, **_demanded_names(metric))
        self._extra: tuple[None, ...] = (None,) * _arguments_beyond_two(metric)
        call = getattr(metric, "__call__", None)  # noqa: B004 - an async __call__ is what is asked for
        self._asynchronous = inspect.iscoroutinefunction(metric) or inspect.iscoroutinefunction(call)
        self._calls = QuickCalls(threads, scheduler)

    async def score(self, row: str, example: dspy.Example, prediction: Any) -> Verdict:
        """The metric's verdict; `row` says which example it is about.

        Raises:
            MetricError: The metric raised, which is then the cause, or gave something that is no finite number.
            InfrastructureError: The metric calls an LM, which could not be reached.
        """
        try:
            output = await isolated(self._ask(example, prediction))
        except Exception as error:
            cause = infrastructure_cause(error)
            if isinstance(cause, InfrastructureError):
                raise cause from error
            if cause is not None:
                raise LMUnavailableError(f"the metric's LM failed: {self._secrets.describe(cause)}") from error
            raise self._raised(row, error) from error
        return verdict(row, output, self._objectives)

    async def try_on(self, row: str, example: dspy.Example) -> None:
        """Asks about an example with its own labels for a prediction; raises MetricError if that shows a defect."""
        labels = dspy.Prediction(**dict(cast("Any", example.labels())))
        try:
            output = await isolated(self._ask(example, labels))
        except SURELY_WRONG as error:
            raise self._raised(row, error) from error
        except Exception:  # noqa: BLE001 - labels are no real prediction; the first rollout tells more
            return
        verdict(row, output, self._objectives)

    async def _ask(self, example: dspy.Example, prediction: Any) -> Any:
        call = partial(self._metric, example, prediction, *self._extra)
        if self._asynchronous:
            return await call()
        output = await self._calls.run(call)
        return await output if inspect.isawaitable(output) else output

    def _raised(self, row: str, error: Exception) -> MetricError:
        return MetricError(f"the metric raised on {row}: {self._secrets.describe(error)}")


def verdict(row: str, output: Any, objectives: Objectives | None = None) -> Verdict:
    """What the metric's `output` says. Raises MetricError where it is no score, or lacks one of the `objectives`."""
    if objectives is not None:
        return _combined(row, output, objectives)
    feedback: dict[str, JSON] = {}
    score = output
    if isinstance(output, dspy.Prediction):
        fields = dict(cast("list[tuple[str, Any]]", output.items()))
        if "score" not in fields:
            raise MetricError(f"the metric gave a dspy.Prediction without a score on {row}: it has {sorted(fields)}")
        score = fields.pop("score")
        feedback = {name: to_json_value(value) for name, value in fields.items()}
    return Verdict(_number(row, score), feedback)


def _combined(row: str, output: Any, objectives: Objectives) -> Verdict:
    """The verdict of several metrics; their scores stay among the feedback, by name."""
    names = ", ".join(objectives.names)
    if not isinstance(output, dspy.Prediction):
        raise MetricError(
            f"the metric gave {output!r:.80} ({type(output).__name__}) on {row}: with these objectives it must give a "
            f"dspy.Prediction with the scores {names}"
        )
    fields = dict(cast("list[tuple[str, Any]]", output.items()))
    missing = [name for name in objectives.names if name not in fields]
    if missing:
        raise MetricError(
            f"the metric gave no {', '.join(missing)} on {row}: the objectives are {names}, and it has {sorted(fields)}"
        )
    scores = {name: _number(f"{row}, as {name}", fields[name]) for name in objectives.names}
    feedback = {name: to_json_value(value) for name, value in fields.items()}
    return Verdict(objectives.combine(scores), {**feedback, **scores})


def _number(row: str, score: Any) -> float:
    """A score as a number of Python's. Raises MetricError where it is none.

    Infinities are none either: they would make every mean and every gap that they enter infinite or NaN, as would the
    squares of the largest floats.
    """
    if isinstance(score, np.generic | np.ndarray) and np.ndim(cast("Any", score)) == 0:
        score = cast("Any", score).item()
    if not isinstance(score, bool | int | float):
        kind = type(cast("Any", score)).__name__
        raise MetricError(
            f"the metric gave {score!r:.80} ({kind}) on {row}: it must give a number, a bool, or a dspy.Prediction "
            "with such a score"
        )
    if not is_score(score):
        told = repr(score) if isinstance(score, float) else f"a whole number of {score.bit_length()} bits"
        raise MetricError(
            f"the metric gave {told} on {row}: a score must be finite, and between -{LARGEST_SCORE:g} and "
            f"{LARGEST_SCORE:g}"
        )
    return score


def is_score(value: object) -> bool:
    """Whether it is a number that can be reckoned with."""
    return isinstance(value, bool | int | float) and abs(value) <= LARGEST_SCORE


def _arguments_beyond_two(metric: Callable[..., Any]) -> int:
    """How many more arguments the metric insists on: its `trace`, or `trace, pred_name, pred_trace`."""
    parameters = _parameters(metric)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    demanded = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return max(0, len(demanded) - 2)


def _demanded_names(metric: Callable[..., Any]) -> dict[str, None]:
    """Keyword-only arguments that the metric insists on."""
    demanded = [p for p in _parameters(metric) if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return {p.name: None for p in demanded if p.default is inspect.Parameter.empty}


def _parameters(metric: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(metric).parameters.values())
    except (TypeError, ValueError):
        return []  # Some builtins have no signature to look at.
