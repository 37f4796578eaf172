"""What an OptimizerConfig or a live program refuses, each with a message that says what was given and what to give.

All of them raise ConfigError.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

import dspy
import orjson

from simba_actors.errors import ConfigError
from simba_actors.lm.budget import Budget
from simba_actors.lm.governor import Governor
from simba_actors.programs.copying import check_module
from simba_actors.programs.entry_points import SYNC, method_of, takes
from simba_actors.programs.values import LARGEST_INTEGER, contents, json_problem
from simba_actors.search.adaptive.policy import least_rollouts
from simba_actors.search.plan import STUDENT_LM
from simba_actors.store.reading import PROMPT_MODEL
from simba_actors.strategies import Strategy

logger = logging.getLogger(__name__)

RESERVED_LMS = (STUDENT_LM, "teacher", PROMPT_MODEL)
"""Names of the LMs that have settings of their own."""


def check_student(student: dspy.Module) -> None:
    check_module(student)
    check_method(student)
    if not student.predictors():
        raise ConfigError(
            f"student {type(student).__name__} has no predictors, so there is nothing to optimize: give it a "
            "dspy.Predict (or ChainOfThought, ReAct, …) as an attribute. Sub-modules with _compiled=True are frozen "
            "and do not count."
        )


def check_method(student: dspy.Module) -> None:
    """Check that the student has a method which returns a prediction, or can be awaited for one."""
    method, name = method_of(student), type(student).__name__
    if method is None:
        raise ConfigError(f"student {name} has neither forward nor aforward: give it one of them")
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise ConfigError(
            f"{name}.{method.__name__} is a generator, which no metric can score: return a dspy.Prediction, and use "
            "dspy.streamify to stream it"
        )
    if inspect.iscoroutinefunction(method) and method.__name__ in SYNC:
        raise ConfigError(f"{name}.{method.__name__} is async, and DSPy does not await it: name it aforward")


def check_run_id(run_id: object) -> None:
    if not isinstance(run_id, str):
        raise ConfigError(f"run_id must be a string, not {type(run_id).__name__}: {run_id!r:.80}")
    if json_problem(run_id) is not None:
        raise ConfigError(f"run_id={run_id!r:.80} holds half of a surrogate pair, which can't be stored")


def check_callbacks(callbacks: object) -> None:
    if not isinstance(callbacks, Collection):
        raise ConfigError(f"callbacks must be a list of functions, as in [print], not {callbacks!r:.80}")
    for callback in cast("Collection[object]", callbacks):
        if not callable(callback):
            raise ConfigError(f"callbacks: {callback!r} is not callable; it is called as callback(event)")


def check_governor(governor: object) -> None:
    if governor is not None and not isinstance(governor, Governor):
        raise ConfigError(f"governor must be a Governor, not {type(governor).__name__}: {governor!r:.80}")


def check_enough_calls(max_calls: int | None, bsize: int, predictors: int) -> None:
    """Refuse a cap on calls with which the adaptive policy could not finish a step."""
    least = least_rollouts(bsize) * max(1, predictors)
    if max_calls is not None and max_calls < least:
        raise ConfigError(
            f"budget: max_calls={max_calls} is too small to learn anything from. With bsize={bsize} and {predictors} "
            f"predictor(s), a run needs at least {least} calls: raise max_calls"
        )


def check_budget(budget: object) -> None:
    if not isinstance(budget, Budget):
        raise ConfigError(f"budget must be a Budget, as in Budget(max_calls=5_000), not {budget!r:.80}")


def warn_of_overlap(trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]) -> None:
    """Log a warning if the valset has examples of the trainset: scores on what was learnt from are too good."""
    if not valset:
        return
    train = {_identity(example) for example in trainset}
    both = sum(_identity(example) in train for example in valset)
    if both:
        logger.warning(
            "%d of the valset's %d examples are in the trainset as well: the winner is chosen by examples it may have "
            "learnt from. Split the examples into two lists that share none",
            both,
            len(valset),
        )


def _identity(example: dspy.Example) -> bytes:
    return orjson.dumps(contents([dict(cast("Any", example))]), option=orjson.OPT_SORT_KEYS)


def check_lm(name: str, lm: object) -> None:
    if lm is not None and not isinstance(lm, dspy.BaseLM):
        remedy = f", as in dspy.LM({lm!r:.80})" if isinstance(lm, str) else ""
        raise ConfigError(f"{name} must be a dspy.LM, not {type(lm).__name__}{remedy}")


def check_strategies(strategies: object) -> None:
    if not isinstance(strategies, Sequence):
        raise ConfigError(f"strategies must be a list, as in [AppendADemo(), AppendARule()], not {strategies!r:.80}")
    if not strategies:
        raise ConfigError("strategies=[]: at least one strategy is needed; leave it out for SIMBA's own")
    names: list[str] = []
    for place, strategy in enumerate(cast("Sequence[object]", strategies)):
        if isinstance(strategy, type) or not isinstance(strategy, Strategy):
            raise ConfigError(f"strategies[{place}]={strategy!r:.80} is not a strategy, such as AppendADemo()")
        if strategy.name in names:
            raise ConfigError(
                f"strategies[{names.index(strategy.name)}] and strategies[{place}] are both named {strategy.name!r}, "
                "so that events could not tell them apart: leave one out, or give a subclass another name"
            )
        names.append(strategy.name)


def check_metric(metric: object) -> None:
    if not callable(metric):
        raise ConfigError(f"metric must be callable as metric(example, prediction), not {type(metric).__name__}")
    try:
        signature = inspect.signature(metric)
    except (TypeError, ValueError):
        return  # Some builtins have no signature to look at.
    for arguments in (2, 3, 5):
        try:
            signature.bind(*[None] * arguments)
        except TypeError:
            continue
        return
    raise ConfigError(
        f"metric{signature} takes the wrong arguments: it is called as metric(example, prediction), with trace as a "
        "third or (trace, pred_name, pred_trace) as three more where it asks for them"
    )


def check_whole(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}={value!r}: must be a whole number of at least {least}")
    if value > LARGEST_INTEGER:
        raise ConfigError(f"{name} is more than 64 bits hold: must be at most 2**63 - 1")


def check_number(name: str, value: object, *, least: float | None = None, above: float | None = None) -> None:
    bound = f"at least {least:g}" if least is not None else f"above {above:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"{name}={value!r}: must be a number {bound}")
    if (least is not None and value < least) or (above is not None and value <= above):
        raise ConfigError(f"{name}={value!r}: must be {bound}")


def check_sampling_lms(lms: object) -> None:
    if not isinstance(lms, Mapping):
        raise ConfigError("sampling_lms must be LMs by name, as in {'large': dspy.LM(…)}")
    for name, lm in cast("Mapping[object, object]", lms).items():
        if not isinstance(name, str) or not name or name in RESERVED_LMS:
            raise ConfigError(
                f"sampling_lms: {name!r} can't name one; a name is a string other than {', '.join(RESERVED_LMS)}"
            )
        if lm is None:
            raise ConfigError(f"sampling_lms[{name!r}] must be a dspy.LM, not None")
        check_lm(f"sampling_lms[{name!r}]", lm)


def check_enough(trainset: Sequence[object], bsize: int) -> None:
    if not trainset:
        raise ConfigError("trainset is empty: SIMBA learns from examples, at least bsize of them")
    if len(trainset) < bsize:
        raise ConfigError(
            f"trainset has {len(trainset)} examples, fewer than bsize={bsize}: give more examples or a smaller bsize"
        )


def _input_names(example: dspy.Example) -> set[str]:
    try:
        return set(cast("list[str]", example.inputs().keys()))
    except ValueError:  # They were not set.
        return set()


def check_examples(name: str, examples: object) -> None:
    if not isinstance(examples, Sequence):
        raise ConfigError(f"{name} must be a list of dspy.Example, not {type(examples).__name__}")
    for row, example in enumerate(cast("Sequence[object]", examples)):
        if not isinstance(example, dspy.Example):
            raise ConfigError(f"{name}[{row}] must be a dspy.Example, not {type(example).__name__}")
        if not _input_names(example):
            raise ConfigError(
                f"{name}[{row}] does not say which of its fields are inputs: "
                "use dspy.Example(question=…, answer=…).with_inputs('question')"
            )


def check_inputs_fit(student: dspy.Module, name: str, examples: Sequence[dspy.Example]) -> None:
    expected = _signature_of_call(student)
    for row, example in enumerate(examples):
        inputs = _input_names(example)
        problem = expected(inputs)
        if problem:
            raise ConfigError(f"{name}[{row}] does not fit {type(student).__name__}: {problem}")


def _signature_of_call(student: dspy.Module) -> Callable[[set[str]], str | None]:
    """Return a function that says what is wrong with a set of input names for this student, or None."""
    method = method_of(student)
    if isinstance(student, dspy.Predict) and getattr(method, "__func__", None) in vars(dspy.Predict).values():
        return lambda inputs: _misfit_of_predict(student, inputs)
    return lambda inputs: takes(method, inputs)


def _misfit_of_predict(predict: dspy.Predict, inputs: set[str]) -> str | None:
    signature: Any = predict.signature
    known: dict[str, Any] = signature.input_fields
    required = {name for name, field in known.items() if field.is_required()}
    if required <= inputs <= set(known):
        return None
    return f"its inputs are {sorted(known)}, the example's {sorted(inputs)}"
