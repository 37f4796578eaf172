"""What travels to workers: the student, the metric and the LMs, by cloudpickle, as everywhere in Ray.

Histories of LMs stay here: they grow to gigabytes, and no rollout reads them.
"""

from __future__ import annotations

import io
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import cloudpickle
import dspy

from simba_actors.dspy_compat.settings import changed_settings
from simba_actors.errors import ConfigError
from simba_actors.programs import ConfigurationSpace
from simba_actors.runtime.logs import get_logger
from simba_actors.search.objectives import Objectives
from simba_actors.search.rollout import STUDENT_LM, Split

logger = get_logger(__name__)

MADE = ("student", "metric", "lm", "teacher_lm", "sampling_lms")
"""Names of the parts that `setup` can make: those that they have in OptimizerConfig."""

MOST_LOOKED_AT = 200
"""Attributes that are looked at for the one that can't travel."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker needs to run rollouts. None stands for what `setup` makes."""

    student: dspy.Module | None
    metric: Callable[..., Any] | None
    lms: Mapping[str, Any]
    """The run's LMs by name, without those that `setup` makes."""
    space: ConfigurationSpace
    examples: Mapping[Split, Sequence[dspy.Example]]
    objectives: Objectives | None
    rollout_timeout: float
    on_metric_error: Literal["stop", "score 0"]
    settings: Mapping[str, Any]
    """DSPy's settings that are not its defaults."""

    def without(self, made: Sequence[str]) -> Parts:
        """Return the parts without those of these names, which `setup` makes."""
        lms = dict(self.lms)
        if "lm" in made:
            lms.pop(STUDENT_LM, None)
        if "teacher_lm" in made:
            lms.pop("teacher", None)
        if "sampling_lms" in made:
            lms = {name: lm for name, lm in lms.items() if name in (STUDENT_LM, "teacher")}
        return replace(
            self,
            student=None if "student" in made else self.student,
            metric=None if "metric" in made else self.metric,
            lms=lms,
        )

    def completed(self, made: Mapping[str, Any]) -> Parts:
        """Return the parts with those that `setup` has made."""
        lms = dict(self.lms)
        if "lm" in made:
            lms[STUDENT_LM] = made["lm"]
        if "teacher_lm" in made:
            lms["teacher"] = made["teacher_lm"]
        lms.update(made.get("sampling_lms", {}))
        return replace(self, student=made.get("student", self.student), metric=made.get("metric", self.metric), lms=lms)


def settings_to_send() -> dict[str, Any]:
    """Return DSPy's settings that are not its defaults, as far as they can travel and concern rollouts.

    Callbacks that can't are left here, with a warning: they observe, and no result depends on them.
    """
    settings = changed_settings()
    settings.pop("lm", None)  # It is among the run's LMs.
    callbacks = [each for each in cast("list[object]", settings.get("callbacks") or []) if not _is_ours(each)]
    staying = [each for each in callbacks if _problem(each) is not None]
    if staying:
        logger.warning(
            "%s among dspy.settings.callbacks can't travel to Ray's workers, so rollouts do not call it: set it up in "
            "each worker with RayExecutor(setup=…)",
            ", ".join(sorted({type(each).__name__ for each in staying})),
        )
    return {**settings, "callbacks": [each for each in callbacks if each not in staying]}


def check_travels(name: str, value: Any) -> None:
    """Raise ConfigError if a value can't be pickled."""
    problem = _problem(value)
    if problem is not None:
        raise ConfigError(f"{_innermost(name, value, problem)}: so it can't travel to Ray's workers")


def packed(parts: Parts) -> bytes:
    """Return the parts as bytes.

    Raises:
        ConfigError: One can't be pickled. The message names its attribute.
    """
    try:
        return _pickled(parts)
    except Exception as error:
        raise ConfigError(
            f"{_culprit(parts, error)}: so it can't travel to Ray's workers. Make it in each of them instead, with "
            "RayExecutor(setup=…)"
        ) from error


def unpacked(blob: bytes) -> Parts:
    """Return the parts that `packed` has packed."""
    return cloudpickle.loads(blob)


class _Pickler(cloudpickle.CloudPickler):
    """Pickles LMs without their history."""

    def reducer_override(self, obj: Any) -> Any:  # The name that pickle gives it.
        if isinstance(obj, dspy.BaseLM):
            reduced = obj.__reduce_ex__(5)
            state: Any = reduced[2] if isinstance(reduced, tuple) and len(reduced) > 2 else None
            if isinstance(state, dict) and "history" in state:
                return (*reduced[:2], {**cast("dict[str, Any]", state), "history": []}, *reduced[3:])
            return reduced
        return cast("Any", super().reducer_override(obj))


def _pickled(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(value)
    return file.getvalue()


def _is_ours(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "simba_actors"


def _problem(value: Any) -> Exception | None:
    """Return why a value can't be pickled; None if it can."""
    try:
        _pickled(value)
    except Exception as error:  # noqa: BLE001 - classes of the user's may raise anything
        return error
    return None


def _culprit(parts: Parts, error: Exception) -> str:
    """Return the innermost attribute that can't be pickled, as a path, and why."""
    named: dict[str, Any] = {
        "student": parts.student,
        "metric": parts.metric,
        **{"lm" if name == STUDENT_LM else name: lm for name, lm in parts.lms.items()},
        **{f"dspy.settings.{name}": value for name, value in parts.settings.items()},
        **{
            f"{split}set[{index}]": example
            for split, examples in parts.examples.items()
            for index, example in enumerate(examples)
        },
        "space": parts.space,
        "objectives": parts.objectives,
    }
    for path, value in named.items():
        problem = _problem(value)
        if problem is not None:
            return _innermost(path, value, problem)
    return f"the config: {error}"


def _innermost(path: str, value: Any, problem: Exception) -> str:
    """Return the nearest attribute that can't be pickled although all that it holds can, as a path, and why."""
    ahead = deque([(path, value, problem)])
    seen = {id(value)}
    while ahead:
        where, holder, error = ahead.popleft()
        failing = [(name, child, _problem(child)) for name, child in _children(holder)]
        inner = [(name, child, why) for name, child, why in failing if why is not None]
        if not inner:
            return f"{where}: {error}"
        for name, child, why in inner:
            if id(child) not in seen and len(seen) < MOST_LOOKED_AT:
                seen.add(id(child))
                ahead.append((where + name, child, why))
    return f"{path}: {problem}"


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value holds, with how it is written."""
    match value:
        case dict():
            yield from ((f"[{key!r}]", each) for key, each in cast("dict[Any, Any]", value).items())
        case list() | tuple():
            yield from ((f"[{index}]", each) for index, each in enumerate(cast("Sequence[Any]", value)))
        case types.MethodType():
            yield "", value.__self__
        case types.FunctionType():
            free = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
            yield from ((f", its variable {name}", cell.cell_contents) for name, cell in free)
            names = (name for name in value.__code__.co_names if name in value.__globals__)
            if value.__module__ == "__main__":  # Pickled with what it uses, since no worker can import it.
                yield from ((f", its global {name}", value.__globals__[name]) for name in names)
        case _:
            yield from ((f".{name}", each) for name, each in _state(value).items())


def _state(value: Any) -> dict[str, Any]:
    """Return the attributes of a value that are pickled: a class may leave some out."""
    try:
        reduced: tuple[Any, ...] | str = value.__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - why it can't be pickled is known; where is looked for
        return getattr(value, "__dict__", {})
    states: Any = reduced[2] if isinstance(reduced, tuple) and len(reduced) > 2 else None
    found: dict[str, Any] = {}
    for state in cast("tuple[Any, ...]", states) if isinstance(states, tuple) else (states,):
        if isinstance(state, dict):
            found.update(cast("dict[str, Any]", state))
    return found
