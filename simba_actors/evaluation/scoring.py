"""Calling the metric, and checking that it returns a score."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, cast

import dspy
import numpy as np

from simba_actors.errors import InfrastructureError, LMUnavailableError, MetricError
from simba_actors.lm.failures import infrastructure_cause
from simba_actors.lm.secrets import Secrets
from simba_actors.programs import to_json_value
from simba_actors.programs.copying import copied_example
from simba_actors.runtime.exception_isolation import isolated
from simba_actors.runtime.threads import Threads
from simba_actors.search.objectives import Objectives
from simba_actors.search.rollout import JSON

SURELY_WRONG = (NameError, ImportError, NotImplementedError)
"""Errors of a metric that fails on any input."""

NAMES_OF_TRACES = frozenset({"trace", "pred_name", "pred_trace"})
"""DSPy's names for the arguments of a metric after the example and the prediction."""

LARGEST_SCORE = 1e18
"""The largest absolute value: it fits into 64 bits, and the sum of many squares of it into a float."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """Result of the metric for one prediction."""

    score: float
    """The score, in the metric's own type if JSON has it: a bool stays a bool."""
    feedback: dict[str, JSON]
    """The other fields of a `dspy.Prediction` that the metric returned."""


class Scorer:
    """Calls a metric of any signature that DSPy accepts.

    Sync metrics run in a thread, in the caller's context, so that a slow one blocks nothing. Error messages hold no
    `secrets`.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        threads: Threads,
        objectives: Objectives | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._objectives = objectives
        self._secrets = secrets or Secrets()
        if isinstance(metric, dspy.Module) and not hasattr(metric, "forward"):
            metric = cast("Callable[..., Any]", metric.acall)  # A judge that has an async side alone.
        self._metric: Callable[..., Any] = partial(metric, **_required_keywords(metric))
        self._extra: tuple[None, ...] = (None,) * _arguments_beyond_two(metric)
        call = getattr(metric, "__call__", None)  # noqa: B004 - looking for an async __call__
        self._asynchronous = inspect.iscoroutinefunction(metric) or inspect.iscoroutinefunction(call)
        self._threads = threads

    async def score(self, where: str, example: dspy.Example, prediction: Any) -> MetricResult:
        """Return the metric's result for a prediction. `where` names the example in errors, as in "trainset[3]".

        Raises:
            MetricError: The metric raised, which is then the cause, or returned something that is not a finite number.
            InfrastructureError: The metric called an LM that could not be reached.
        """
        try:
            output = await isolated(self._ask(example, prediction))
        except Exception as error:
            cause = infrastructure_cause(error)
            if isinstance(cause, InfrastructureError):
                raise cause from error
            if cause is not None:
                raise LMUnavailableError(f"the metric's LM failed: {self._secrets.describe(cause)}") from error
            raise self._raised(where, error) from error
        return metric_result(where, output, self._objectives)

    async def try_on(self, where: str, example: dspy.Example) -> None:
        """Call the metric with an example's labels as the prediction. Raise MetricError if that shows a defect."""
        copied = copied_example(example)  # The metric may change it.
        labels = dspy.Prediction(**dict(cast("Any", copied_example(example).labels())))
        try:
            output = await isolated(self._ask(copied, labels))
        except SURELY_WRONG as error:
            raise self._raised(where, error) from error
        except Exception:  # noqa: BLE001 - labels are not a real prediction; the first rollout tells more
            return
        metric_result(where, output, self._objectives)

    async def _ask(self, example: dspy.Example, prediction: Any) -> Any:
        call = partial(self._metric, example, prediction, *self._extra)
        if self._asynchronous:
            return await call()
        output = await self._threads.run(call)
        return await output if inspect.isawaitable(output) else output

    def _raised(self, where: str, error: Exception) -> MetricError:
        return MetricError(f"the metric raised on {where}: {self._secrets.describe(error)}")


def metric_result(where: str, output: Any, objectives: Objectives | None = None) -> MetricResult:
    """Return the result in the metric's `output`. Raise MetricError if it lacks a score, or one of the `objectives`."""
    if objectives is not None:
        return _combined(where, output, objectives)
    feedback: dict[str, JSON] = {}
    score = output
    if isinstance(output, dspy.Prediction):
        fields = dict(cast("list[tuple[str, Any]]", output.items()))
        if "score" not in fields:
            raise MetricError(
                f"the metric returned a dspy.Prediction without a score for {where}: it has {sorted(fields)}"
            )
        score = fields.pop("score")
        feedback = {name: to_json_value(value) for name, value in fields.items()}
    return MetricResult(_number(where, score), feedback)


def _combined(where: str, output: Any, objectives: Objectives) -> MetricResult:
    """Return one result of several named scores, which stay in the feedback."""
    names = ", ".join(objectives.names)
    if not isinstance(output, dspy.Prediction):
        raise MetricError(
            f"the metric returned {_shown(output)} for {where}: with these objectives it must "
            f"return a dspy.Prediction with the scores {names}"
        )
    fields = dict(cast("list[tuple[str, Any]]", output.items()))
    missing = [name for name in objectives.names if name not in fields]
    if missing:
        raise MetricError(
            f"the metric returned no {', '.join(missing)} for {where}: the objectives are {names}, and it has "
            f"{sorted(fields)}"
        )
    scores = {name: _number(f"{where}, as {name}", fields[name]) for name in objectives.names}
    feedback = {name: to_json_value(value) for name, value in fields.items()}
    return MetricResult(objectives.combine(scores), {**feedback, **scores})


def _number(where: str, score: Any) -> float:
    """Return a score as a Python number. Raise MetricError if it is not a score.

    Infinities are not allowed, since means and gaps that include one are infinite or NaN. Neither are the largest
    floats, whose squares overflow.
    """
    if isinstance(score, np.generic | np.ndarray) and np.ndim(cast("Any", score)) == 0:
        score = cast("Any", score).item()
    if isinstance(score, Decimal | Fraction) and math.isfinite(score):
        score = float(score)
    if not isinstance(score, bool | int | float):
        raise MetricError(
            f"the metric returned {_shown(score)} for {where}: it must return a number, a bool, or a "
            "dspy.Prediction with such a score"
        )
    if not is_score(score):
        shown = repr(score) if isinstance(score, float) else f"a whole number of {score.bit_length()} bits"
        raise MetricError(
            f"the metric returned {shown} for {where}: a score must be finite, and between -{LARGEST_SCORE:g} and "
            f"{LARGEST_SCORE:g}"
        )
    if isinstance(score, bool):
        return score
    return int(score) if isinstance(score, int) else float(score)  # Enums and sub-classes are not all JSON.


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything
        text = "a value whose repr() fails"
    return f"{text:.80} ({type(value).__name__})"


def is_score(value: object) -> bool:
    """Return whether `value` is a number that is finite and small enough for sums of squares."""
    return isinstance(value, bool | int | float) and abs(value) <= LARGEST_SCORE


def _arguments_beyond_two(metric: Callable[..., Any]) -> int:
    """Return the number of further required arguments: of `trace`, or of `trace, pred_name, pred_trace`."""
    own = _parameters(metric, follow_wrapped=False)
    required = _required_names(own)
    if len(required) >= 2 or all(p.kind is not inspect.Parameter.VAR_POSITIONAL for p in own):
        return max(0, len(required) - 2)
    # A decorator takes `*args`, and may add arguments to them: only DSPy's own are known to be missing.
    names = [name in NAMES_OF_TRACES for name in _required_names(_parameters(metric))]
    return sum(itertools.takewhile(bool, reversed(names)))


def _required_keywords(metric: Callable[..., Any]) -> dict[str, None]:
    """Return the required keyword-only arguments, each with None."""
    own = _parameters(metric, follow_wrapped=False)
    required = dict.fromkeys(_required_keyword_names(own))
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own):
        within = _required_keyword_names(_parameters(metric))
        required.update(dict.fromkeys(name for name in within if name in NAMES_OF_TRACES))
    return required


def _required_names(parameters: Sequence[inspect.Parameter]) -> list[str]:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]


def _required_keyword_names(parameters: Sequence[inspect.Parameter]) -> list[str]:
    keywords = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return [p.name for p in keywords if p.default is inspect.Parameter.empty]


def _parameters(metric: Callable[..., Any], *, follow_wrapped: bool = True) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(metric, follow_wrapped=follow_wrapped).parameters.values())
    except (TypeError, ValueError):
        return []  # Some builtins have no signature to look at.
