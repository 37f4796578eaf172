"""When a run has found enough: stoppers, asked at the end of each step.

    config = OptimizerConfig(…, stop_when=TargetReached(0.9) | NoImprovement(patience=5))

A stopper is a value without a state of its own: it looks at the `Progress` of the steps so far, which the store keeps,
so that a run that was killed and goes on decides the same. `a | b` stops when either does, `a & b` when both do at the
end of the same step; a function of one's own can take the place of either.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np

from simba_actors.errors import ConfigError, StopperError
from simba_actors.search.progress import Progress

StopWhen: TypeAlias = Callable[[Progress], bool | str | None]
"""Given the `Progress`, says whether the run is to end: False or None if not, True or the reason in words if so."""


class Stopper:
    """What the stoppers have in common: they combine by `|` and `&`."""

    def __call__(self, progress: Progress) -> str | None:
        """The reason to end the run, or None."""
        raise NotImplementedError

    def __or__(self, other: StopWhen) -> Stopper:
        return AnyOf(self, check_stop_when(other))

    def __ror__(self, other: StopWhen) -> Stopper:
        return AnyOf(check_stop_when(other), self)

    def __and__(self, other: StopWhen) -> Stopper:
        return AllOf(self, check_stop_when(other))

    def __rand__(self, other: StopWhen) -> Stopper:
        return AllOf(check_stop_when(other), self)


@dataclass(frozen=True, slots=True)
class AnyOf(Stopper):
    """`first | second`."""

    first: StopWhen
    second: StopWhen

    def __call__(self, progress: Progress) -> str | None:
        return reason_to_stop(self.first, progress) or reason_to_stop(self.second, progress)


@dataclass(frozen=True, slots=True)
class AllOf(Stopper):
    """`first & second`."""

    first: StopWhen
    second: StopWhen

    def __call__(self, progress: Progress) -> str | None:
        reasons = [reason_to_stop(self.first, progress), reason_to_stop(self.second, progress)]
        return None if None in reasons else " and ".join(reason for reason in reasons if reason)


@dataclass(frozen=True, slots=True)
class NoImprovement(Stopper):
    """Stops when the best program has not become better, beyond noise, for `patience` steps.

    It has become better when the low end of its interval is above the best program's mean at the end of any of those
    steps. Early stopping as in neural networks (Prechelt, "Early stopping - but when?", 1998), with an interval in
    place of a fixed least gain.
    """

    patience: int = 5

    def __post_init__(self) -> None:
        _check_steps("NoImprovement(patience", self.patience)

    def __call__(self, progress: Progress) -> str | None:
        now, window = progress.best, progress.earlier[-self.patience :]
        means = [each.best.mean for each in window if each.best is not None]
        if now is None or len(means) < self.patience or now.low > min(means):
            return None
        return f"no improvement beyond noise for {self.patience} steps: the best program is at {now}"


@dataclass(frozen=True, slots=True)
class TargetReached(Stopper):
    """Stops when the best program scores `target` or more on the trainset beyond doubt.

    The low end of its 95 % interval has to be there, not its mean, which may be luck. With `policy="dspy"` few rollouts
    tell of a program, and its intervals are wide.
    """

    target: float

    def __post_init__(self) -> None:
        _check_number("TargetReached(target", self.target)

    def __call__(self, progress: Progress) -> str | None:
        if progress.best is None or progress.best.low < self.target:
            return None
        return f"the target {self.target:g} is reached: the best program is at {progress.best}"


@dataclass(frozen=True, slots=True)
class EveryBucketSolved(Stopper):
    """Stops when there is nothing left to learn from: no trajectory of the student's LM fell short of `score`.

    That has to hold in `steps` steps running, since the examples of one may be easy ones.
    """

    score: float = 1.0
    steps: int = 3

    def __post_init__(self) -> None:
        _check_number("EveryBucketSolved(score", self.score)
        _check_steps("EveryBucketSolved(steps", self.steps)

    def __call__(self, progress: Progress) -> str | None:
        last = progress.history[-self.steps :]
        if len(last) < self.steps or not all(self._solved(each) for each in last):
            return None
        return f"every bucket of {self.steps} steps is solved: no trajectory scored below {self.score:g}"

    def _solved(self, step: Progress) -> bool:
        return bool(step.bucket_floors) and min(step.bucket_floors) >= self.score


@dataclass(frozen=True, slots=True)
class Timeout(Stopper):
    """Stops at the end of the step in which the run has been up for `seconds`, over all its lives.

    `Budget(max_seconds=…)` ends a run in the middle of a step, and leaves no time to choose the winner.
    """

    seconds: float

    def __post_init__(self) -> None:
        _check_number("Timeout(seconds", self.seconds)
        if self.seconds <= 0:
            raise ConfigError(f"Timeout(seconds={self.seconds!r}): must be above 0")

    def __call__(self, progress: Progress) -> str | None:
        if progress.seconds < self.seconds:
            return None
        return f"the run was up for {progress.seconds:.0f} s, and had {self.seconds:g} s to search"


def reason_to_stop(stop_when: StopWhen, progress: Progress) -> str | None:
    """What `stop_when` says, in words; None to go on.

    Raises:
        StopperError: It is a function of the user's that raised, which is then the cause, or gave no verdict.
    """
    if isinstance(stop_when, Stopper):
        return stop_when(progress)
    name = _name(stop_when)
    try:
        verdict = stop_when(progress)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise StopperError(
            f"stop_when: {name} raised after step {progress.step}: {type(error).__name__}: {error}. Start the run "
            "again when it is mended: it goes on"
        ) from error
    if verdict is None or isinstance(verdict, str):
        return verdict or None
    if not isinstance(cast("Any", verdict), bool | np.bool_):
        raise StopperError(
            f"stop_when: {name} gave {verdict!r:.80} ({type(cast('Any', verdict)).__name__}) after step "
            f"{progress.step}: it must give True, False, None, or the reason to stop as a str"
        )
    return f"{name} said so" if verdict else None


def check_stop_when(value: object) -> StopWhen:
    """`value`, if it can be asked whether to stop. Raises ConfigError otherwise."""
    if isinstance(value, list | tuple):
        raise ConfigError("stop_when: give one stopper; several are combined by | (either stops) and & (both do)")
    if not callable(value) or isinstance(value, type):
        raise ConfigError(f"stop_when: {value!r:.80} is no stopper, nor a function that is called as f(progress)")
    if inspect.iscoroutinefunction(value):
        raise ConfigError(f"stop_when: {_name(value)} is async; it must be a plain function")
    try:
        inspect.signature(value).bind(None)
    except TypeError as error:
        raise ConfigError(f"stop_when: {_name(value)} can't be called as f(progress): {error}") from error
    except ValueError:
        pass  # Some builtins have no signature to look at.
    return cast("StopWhen", value)


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _check_steps(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}={value!r}): must be a whole number of steps, at least 1")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name}={value!r}): must be a finite number")
