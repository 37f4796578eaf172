"""Stoppers: rules that end a run early, asked at the end of each step.

    config = OptimizerConfig(…, stop_when=TargetReached(0.9) | NoImprovement(patience=5))

The default is `NothingToGain()`; with `stop_when=None` a run uses its whole budget.
`a | b` stops when either does, `a & b` when both do at the end of the same step. Either can also be a plain function of
the `Progress`. A stopper has no state: it decides by the progress of the steps so far, which the store keeps, so a run
that was killed and resumed decides the same.
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
"""Called with the `Progress`. Returns False or None to continue, and True or the reason as a str to end the run."""


class Stopper:
    """Base class of stoppers, which combine with `|` and `&`."""

    def __call__(self, progress: Progress) -> str | None:
        """Return the reason to end the run, or None to continue."""
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
    """Stop when the best program has not improved beyond noise for `patience` steps.

        OptimizerConfig(…, stop_when=NoImprovement(patience=3) | Timeout(3_600))

    It has improved if the low end of its interval is above the best program's mean at the end of any of those steps.
    This is early stopping as for neural networks (L. Prechelt, "Early stopping - but when?", 1998), with an interval
    in place of a fixed minimum gain.
    """

    patience: int = 5
    """Steps to wait for an improvement."""

    def __post_init__(self) -> None:
        _check_steps("NoImprovement(patience", self.patience)

    def __call__(self, progress: Progress) -> str | None:
        now, window = progress.best, progress.earlier[-self.patience :]
        means = [each.best.mean for each in window if each.best is not None]
        if now is None or len(means) < self.patience or now.low > min(means):
            return None
        return f"no improvement beyond noise for {self.patience} steps"


@dataclass(frozen=True, slots=True)
class NothingToGain(Stopper):
    """Stop when the rest of the search is expected to add less than `least_gain`. This is the default.

        OptimizerConfig(…, stop_when=NothingToGain(least_gain=0.005))

    The expectation comes from the adaptive policy (`progress.outlook`). With `policy="dspy"` it never stops.
    """

    least_gain: float = 0.01
    """Smallest gain that is worth the rest of the calls, as a share of the metric's range."""
    steps: int = 5
    """Number of last steps whose estimates are averaged, since each is uncertain. The last one has to be below
    `least_gain` too."""

    def __post_init__(self) -> None:
        _check_number("NothingToGain(least_gain", self.least_gain)
        _check_steps("NothingToGain(steps", self.steps)

    def __call__(self, progress: Progress) -> str | None:
        outlooks = [each.outlook for each in progress.history[-self.steps :]]
        outlook = progress.outlook
        if len(outlooks) < self.steps or outlook is None or not outlook.left:
            return None
        shares = [each.share for each in outlooks if each is not None]
        if len(shares) < self.steps or max(shares[-1], sum(shares) / self.steps) >= self.least_gain:
            return None
        return f"{progress.calls_left:,} more calls are expected to add {outlook.gain:.3f} to the best score"


@dataclass(frozen=True, slots=True)
class TargetReached(Stopper):
    """Stop when the best program scores `target` or more on the trainset beyond doubt.

        OptimizerConfig(…, stop_when=TargetReached(0.9))

    The low end of its 95 % interval has to reach the target; its mean may be luck. With `policy="dspy"` a program has
    few rollouts, and its interval is wide.
    """

    target: float
    """A score in the metric's units."""

    def __post_init__(self) -> None:
        _check_number("TargetReached(target", self.target)

    def __call__(self, progress: Progress) -> str | None:
        best = progress.best
        if best is None or best.low < self.target:
            return None
        return f"the target {self.target:g} is reached: the best program is expected to score {best.low:.3f} or more"


@dataclass(frozen=True, slots=True)
class EveryBucketSolved(Stopper):
    """Stop when there is nothing left to learn from.

        OptimizerConfig(…, stop_when=EveryBucketSolved(score=1.0, steps=3))

    A bucket is solved if no trajectory of the student's LM scored below `score`.
    """

    score: float = 1.0
    """The score of a solved example."""
    steps: int = 3
    """Successive steps in which all trajectories have to reach it, since the examples of one step may be easy ones."""

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
    """Stop at the end of the step in which the run's uptime reaches `seconds`, including that before a restart.

        OptimizerConfig(…, stop_when=Timeout(3_600))

    `Budget(max_seconds=…)`, in contrast, ends a run in the middle of a step and leaves no time to choose the winner.
    """

    seconds: float
    """Time without pauses."""

    def __post_init__(self) -> None:
        _check_number("Timeout(seconds", self.seconds)
        if self.seconds <= 0:
            raise ConfigError(f"Timeout(seconds={self.seconds!r}): must be above 0")

    def __call__(self, progress: Progress) -> str | None:
        if progress.seconds < self.seconds:
            return None
        return f"the run has been up for {progress.seconds:.0f} s, of {self.seconds:g} s allowed"


def reason_to_stop(stop_when: StopWhen, progress: Progress) -> str | None:
    """Return the reason that `stop_when` gives to end the run, or None to continue.

    Raises:
        StopperError: `stop_when` raised, which is then the cause, or returned something that is not an answer.
    """
    name = _name(stop_when)
    try:
        answer = stop_when(progress)
    except (KeyboardInterrupt, StopperError):
        raise
    except BaseException as error:
        raise StopperError(
            f"stop_when: {name} raised after step {progress.step}: {type(error).__name__}: {error}. Fix it and start "
            "the run again to resume it"
        ) from error
    if answer is None or isinstance(answer, str):
        return answer or None
    if not isinstance(cast("Any", answer), bool | np.bool_):
        raise StopperError(
            f"stop_when: {name} returned {answer!r:.80} ({type(cast('Any', answer)).__name__}) after step "
            f"{progress.step}: it must return True, False, None, or the reason to stop as a str"
        )
    return f"{name} returned True" if answer else None


def check_stop_when(value: object) -> StopWhen:
    """Return `value` if it can be called as a stopper. Raise ConfigError otherwise."""
    if isinstance(value, list | tuple):
        raise ConfigError("stop_when: pass one stopper; combine several with | (either stops) or & (both must agree)")
    if not callable(value) or isinstance(value, type):
        raise ConfigError(f"stop_when: {value!r:.80} is neither a stopper nor a function of the form f(progress)")
    if inspect.iscoroutinefunction(value):
        raise ConfigError(f"stop_when: {_name(value)} is async; it must be a plain function")
    try:
        inspect.signature(value).bind(None)
    except TypeError as error:
        raise ConfigError(f"stop_when: {_name(value)} can't be called as f(progress): {error}") from error
    except ValueError:
        pass  # Some builtins have no signature to inspect.
    return cast("StopWhen", value)


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _check_steps(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}={value!r}): must be a whole number of steps, at least 1")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name}={value!r}): must be a finite number")


DEFAULT_STOP = NothingToGain()
"""Stopper of a run that sets none."""
