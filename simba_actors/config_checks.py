"""Checks of the arguments of an OptimizerConfig and of `evaluate`.

Each raises ConfigError with a message that says which value is wrong, and what to pass instead.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from typing import Any, TypeVar, cast

import dspy
import orjson

from simba_actors.bridge.remote_lm import RemoteLM
from simba_actors.bridge.remote_student import RemoteStudent
from simba_actors.errors import ConfigError
from simba_actors.evaluation.executor import ExecutorArguments
from simba_actors.lm.budget import Budget
from simba_actors.lm.governor import Governor
from simba_actors.programs.configuration import LARGEST_INTEGER, json_problem
from simba_actors.programs.copying import check_module
from simba_actors.programs.entry_points import SYNC, method_of, takes
from simba_actors.programs.values import contents
from simba_actors.search.adaptive.schedule import least_rollouts
from simba_actors.search.objectives import Objectives
from simba_actors.search.rollout import STUDENT_LM
from simba_actors.store.queries.usage_queries import PROMPT_MODEL, WITHOUT_RESULT
from simba_actors.strategies import Strategy

logger = logging.getLogger(__name__)

Example = TypeVar("Example")

CHECKED_AT_ONCE = 1_000
"""Number of examples of each list that a config checks when it is made, in about 10 ms. The start of the run checks the
others in a thread, so that 100,000 of them do not block the host for seconds."""

RESERVED_LMS = (STUDENT_LM, "teacher", PROMPT_MODEL, WITHOUT_RESULT)
"""Names that `sampling_lms` can't use, since the usage of other calls is reported under them."""


def check_student(student: dspy.Module) -> None:
    """Check that the student is a module that can be run and has predictors to optimize."""
    check_module(student)
    check_method(student)
    if not dspy.Module.predictors(student):
        raise ConfigError(
            f"student {type(student).__name__} has no predictors, so there is nothing to optimize: give it a "
            "dspy.Predict (or ChainOfThought, ReAct, …) as an attribute. Sub-modules with _compiled=True are frozen "
            "and do not count."
        )


def check_method(student: dspy.Module) -> None:
    """Check that the student has a `forward` that returns a prediction, or an `aforward` to await."""
    method, name = method_of(student), type(student).__name__
    if method is None:
        raise ConfigError(f"student {name} has neither forward nor aforward: define one of them")
    if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
        raise ConfigError(
            f"{name}.{method.__name__} is a generator, which no metric can score: return a dspy.Prediction, and use "
            "dspy.streamify to stream it"
        )
    if inspect.iscoroutinefunction(method) and method.__name__ in SYNC:
        raise ConfigError(f"{name}.{method.__name__} is async, but DSPy does not await it: rename it aforward")


def check_run_id(run_id: object) -> None:
    """Check that the run id is a string that SQLite can store."""
    if not isinstance(run_id, str):
        raise ConfigError(f"run_id must be a string, not {type(run_id).__name__}: {run_id!r:.80}")
    if json_problem(run_id) is not None:
        raise ConfigError(f"run_id={run_id!r:.80} holds half of a surrogate pair, which can't be stored: remove it")


def check_callbacks(callbacks: object) -> None:
    if not isinstance(callbacks, Collection):
        raise ConfigError(f"callbacks must be a list of functions, as in [print], not {callbacks!r:.80}")
    for callback in cast("Collection[object]", callbacks):
        if not callable(callback):
            raise ConfigError(f"callbacks: {callback!r} is not callable: pass functions that take an event")


def check_governor(governor: object) -> None:
    if governor is not None and not isinstance(governor, Governor):
        raise ConfigError(f"governor must be a Governor, not {type(governor).__name__}: {governor!r:.80}")


def check_executor(executor: object) -> None:
    """Check that the executor is a factory that takes the arguments of one. The class RayExecutor itself does not."""
    if executor is None:
        return
    remedy = "pass RayExecutor(workers=8), or a function like simba_actors.evaluation.executor.ExecutorFactory"
    if not callable(executor):
        raise ConfigError(f"executor={executor!r:.80} can't be called to make the executor of a run: {remedy}")
    if inspect.iscoroutinefunction(executor):
        raise ConfigError(f"executor={executor!r:.80} is async, but is not awaited: {remedy}")
    try:
        signature = inspect.signature(executor)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**dict.fromkeys(ExecutorArguments.__annotations__))
    except TypeError as error:
        raise ConfigError(
            f"executor={executor!r:.80} does not take the arguments of a factory ({error}): {remedy}"
        ) from None


def check_enough_calls(max_calls: int | None, bsize: int, predictors: int) -> None:
    """Check that the cap on calls lets the adaptive policy finish a step."""
    least = least_rollouts(bsize) * max(1, predictors)
    if max_calls is not None and max_calls < least:
        raise ConfigError(
            f"budget: max_calls={max_calls} is too small to learn anything from. With bsize={bsize}, a run of "
            f"{predictors} predictor{'s' if predictors > 1 else ''} needs at least {least} calls: raise max_calls"
        )


def check_budget(budget: object) -> None:
    if not isinstance(budget, Budget):
        raise ConfigError(f"budget must be a Budget, as in Budget(max_calls=5_000), not {budget!r:.80}")


def warn_of_overlap(trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]) -> None:
    """Log a warning if the valset shares examples with the trainset. `check_other_examples` does so for large sets."""
    if _are_few(trainset, valset):
        _warn_of_overlap(trainset, valset)


def _warn_of_overlap(trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]) -> None:
    """Log a warning if the valset shares examples with the trainset, which makes its scores too high."""
    if not valset:
        return
    train = {_identity(example) for example in trainset}
    both = sum(_identity(example) in train for example in valset)
    if both:
        logger.warning(
            "%d of the valset's %d examples are in the trainset too, so the winner is chosen on examples it may have "
            "learned from: split the examples into two lists that have none in common",
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
        raise ConfigError("strategies is empty: pass at least one strategy, or leave it out for the defaults")
    names: list[str] = []
    for index, strategy in enumerate(cast("Sequence[object]", strategies)):
        if isinstance(strategy, type) or not isinstance(strategy, Strategy):
            raise ConfigError(f"strategies[{index}]={strategy!r:.80} is not a strategy, such as AppendADemo()")
        if strategy.name in names:
            raise ConfigError(
                f"strategies[{names.index(strategy.name)}] and strategies[{index}] are both named {strategy.name!r}, "
                "so events could not distinguish them: remove one, or give a subclass another name"
            )
        names.append(strategy.name)


def check_metric(metric: object) -> None:
    if not callable(metric):
        raise ConfigError(f"metric must be callable as metric(example, prediction), not {type(metric).__name__}")
    try:
        signature = inspect.signature(metric)
        # A decorator may add arguments.
        signatures = signature, inspect.signature(metric, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # Some builtins have no signature.
    if any(_binds(each, arguments) for each in signatures for arguments in (2, 3, 5)):
        return
    raise ConfigError(
        f"metric{signature} takes the wrong arguments: define it as metric(example, prediction), as "
        "metric(example, prediction, trace) or as metric(example, prediction, trace, pred_name, pred_trace)"
    )


def _binds(signature: inspect.Signature, arguments: int) -> bool:
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def check_on_metric_error(value: object) -> None:
    if value not in ("stop", "score 0"):
        raise ConfigError(f"on_metric_error={value!r}: must be 'stop' or 'score 0'")


def check_objectives(objectives: object) -> None:
    if objectives is not None and not isinstance(objectives, Objectives):
        raise ConfigError(f"objectives={objectives!r:.80}: must be Weighted({{…}}) or Pareto([…])")


def check_whole(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}={value!r}: must be a whole number of at least {least}")
    if value > LARGEST_INTEGER:
        raise ConfigError(f"{name} does not fit into 64 bits: must be at most 2**63 - 1")


def check_number(name: str, value: object, *, least: float | None = None, above: float | None = None) -> None:
    bound = f"at least {least:g}" if least is not None else f"above {above:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"{name}={value!r}: must be a number {bound}")
    if (least is not None and value < least) or (above is not None and value <= above):
        raise ConfigError(f"{name}={value!r}: must be {bound}")


def check_remote_lms(student: dspy.Module, lms: Mapping[str, Any]) -> None:
    """Check that no LM of this process is set for a student that runs in another one."""
    if isinstance(student, RemoteStudent):
        predictors = cast("list[tuple[str, Any]]", student.named_predictors())
        own = {f"the LM of predictor {name}": predictor.lm for name, predictor in predictors}
        for name, lm in {**own, **{name: lm for name, lm in lms.items() if lm is not None}}.items():
            if not isinstance(lm, RemoteLM):
                raise ConfigError(
                    f"{name}={lm!r:.80}: the student runs in another process, where this LM is not: pass "
                    f"student.model(name) with one of its own, {student.description.models}"
                )


def check_sampling_lms(lms: object) -> None:
    if not isinstance(lms, Mapping):
        raise ConfigError(f"sampling_lms must be LMs by name, as in {{'large': dspy.LM(…)}}, not {type(lms).__name__}")
    for name, lm in cast("Mapping[object, object]", lms).items():
        if not isinstance(name, str) or not name or name in RESERVED_LMS:
            raise ConfigError(
                f"sampling_lms: {name!r} is not a valid name: use a string other than {', '.join(RESERVED_LMS)}"
            )
        if lm is None:
            raise ConfigError(f"sampling_lms[{name!r}] must be a dspy.LM, not None")
        check_lm(f"sampling_lms[{name!r}]", lm)


def check_enough(trainset: Sequence[object], bsize: int) -> None:
    if not trainset:
        raise ConfigError("trainset is empty: pass at least bsize examples to learn from")
    if len(trainset) < bsize:
        raise ConfigError(
            f"trainset has {len(trainset)} examples, fewer than bsize={bsize}: pass more examples or a smaller bsize"
        )


def check_examples(student: dspy.Module, name: str, examples: object, *, rest: bool = False) -> None:
    """Check that the student can be called with the first `CHECKED_AT_ONCE` examples, or with `rest` the others.

    The event loop waits meanwhile. Most of the time goes into `Example.inputs`, which is called once for each example.
    """
    if not isinstance(examples, Sequence):
        raise ConfigError(f"{name} must be a list of dspy.Example, not {type(examples).__name__}")
    problem_of = _signature_of_call(student)
    known: set[frozenset[str]] = set()
    for index, example in _part(cast("Sequence[object]", examples), rest=rest):
        if not isinstance(example, dspy.Example):
            kind = type(example)
            remedy = f": dspy.Example(**{name}[{index}]).with_inputs(…) makes one" if issubclass(kind, Mapping) else ""
            raise ConfigError(f"{name}[{index}] must be a dspy.Example, not {kind.__name__}{remedy}")
        inputs = _input_names(example)
        if not inputs:
            raise ConfigError(
                f"{name}[{index}] does not say which of its fields are inputs: "
                "use dspy.Example(question=…, answer=…).with_inputs('question')"
            )
        if inputs not in known:
            problem = problem_of(inputs)
            if problem:
                raise ConfigError(f"{name}[{index}] does not fit {type(student).__name__}: {problem}")
            known.add(inputs)


def check_other_examples(
    student: dspy.Module, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
) -> None:
    """Check the examples beyond `CHECKED_AT_ONCE`. The start of a run and an estimate call this in a thread."""
    for name, examples in (("trainset", trainset), ("valset", valset)):
        check_examples(student, name, examples, rest=True)
    if not _are_few(trainset, valset):
        _warn_of_overlap(trainset, valset)


def _part(examples: Sequence[Example], *, rest: bool) -> Iterator[tuple[int, Example]]:
    """Yield the first `CHECKED_AT_ONCE` examples or the `rest`, each with its index."""
    first, end = (CHECKED_AT_ONCE, len(examples)) if rest else (0, min(CHECKED_AT_ONCE, len(examples)))
    return ((index, examples[index]) for index in range(first, end))


def _are_few(trainset: Sequence[object], valset: Sequence[object]) -> bool:
    return max(len(trainset), len(valset)) <= CHECKED_AT_ONCE


def _input_names(example: dspy.Example) -> frozenset[str]:
    try:
        return frozenset(cast("list[str]", example.inputs().keys()))
    except ValueError:  # The example has no `with_inputs`.
        return frozenset()


def _signature_of_call(student: dspy.Module) -> Callable[[Set[str]], str | None]:
    """Return a function that returns the problem with a set of input names for this student, or None."""
    if isinstance(student, RemoteStudent):
        return student.misfit_of
    method = method_of(student)
    if isinstance(student, dspy.Predict) and getattr(method, "__func__", None) in vars(dspy.Predict).values():
        return lambda inputs: _misfit_of_predict(student, inputs)
    return lambda inputs: takes(method, inputs)


def _misfit_of_predict(predict: dspy.Predict, inputs: Set[str]) -> str | None:
    signature: Any = predict.signature
    known: dict[str, Any] = signature.input_fields
    required = {name for name, field in known.items() if field.is_required()}
    if required <= inputs <= known.keys():
        return None
    return f"its inputs are {sorted(known)}, but the example has {sorted(inputs)}"
