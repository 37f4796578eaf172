"""Each stopper stops when it should, and only then."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from simba_actors.errors import ConfigError, StopperError
from simba_actors.search.progress import Progress
from simba_actors.search.quality import Outlook, Quality
from simba_actors.search.rollout import Usage
from simba_actors.search.stopping import (
    EveryBucketSolved,
    NoImprovement,
    NothingToGain,
    Stopper,
    StopWhen,
    TargetReached,
    Timeout,
    check_stop_when,
    reason_to_stop,
)

WIDE, NARROW = 0.1, 0.01


def run(
    *means: float | None, margin: float = NARROW, floors: Sequence[float] = (1.0, 0.0), seconds: float = 0.0
) -> Progress:
    """Return the progress of a run whose best program had these means at the ends of its steps."""
    last: Progress | None = None
    for step, mean in enumerate(means, start=1):
        best = None if mean is None else Quality(step, mean, mean - margin, mean + margin)
        last = Progress(step, best, mean, tuple(floors), Usage(calls=step), seconds, before=last)
    assert last is not None
    return last


def expecting(*gains: float | None, width: float = 1.0, left: int = 1_000) -> Progress:
    """Return the progress of a run that expected these remaining gains, as shares of the metric's range."""
    last: Progress | None = None
    for step, gain in enumerate(gains, start=1):
        outlook = None if gain is None else Outlook(gain * width, gain, 100 * step, left)
        last = Progress(step, Quality(1, 0.5, 0.4, 0.6), 0.5, (), Usage(calls=200 * step), 0.0, outlook, last)
    assert last is not None
    return last


STOPS: dict[str, tuple[StopWhen, Progress]] = {
    "no_improvement_when_nothing_changed": (NoImprovement(3), run(0.3, 0.5, 0.5, 0.5, 0.5)),
    "no_improvement_beyond_noise": (NoImprovement(3), run(0.5, 0.51, 0.53, 0.55, margin=WIDE)),
    "target_with_its_whole_interval_above": (TargetReached(0.8), run(0.82)),
    "target_of_a_metric_of_any_range": (TargetReached(-5), run(3.0)),
    "buckets_without_a_failure": (EveryBucketSolved(steps=2), run(0.5, 0.5, floors=[1.0, 1.0])),
    "nothing_to_gain_in_the_mean": (NothingToGain(steps=3), expecting(0.05, 0.012, 0.009, 0.004)),
    "nothing_to_gain_of_a_wide_metric": (NothingToGain(steps=1), expecting(0.009, width=100.0)),
    "time_that_is_over": (Timeout(60), run(0.5, seconds=61)),
    "a_function_that_returns_true": (lambda progress: progress.usage.calls >= 2, run(0.5, 0.5)),
    "either_of_two": (TargetReached(0.9) | Timeout(60), run(0.5, seconds=61)),
    "both_of_two": (TargetReached(0.4) & Timeout(60), run(0.5, seconds=61)),
    "a_function_on_the_left": ((lambda _: True) | TargetReached(0.9), run(0.5)),
    "a_function_on_the_right": (TargetReached(0.4) & (lambda _: True), run(0.5)),
}

CONTINUES: dict[str, tuple[StopWhen, Progress]] = {
    "no_improvement_before_its_patience": (NoImprovement(3), run(0.5, 0.5, 0.5)),
    "no_improvement_in_a_slow_rise": (NoImprovement(3), run(0.5, 0.51, 0.52, 0.53)),
    "no_improvement_after_a_lucky_start": (NoImprovement(3), run(0.9, 0.5, 0.55, 0.6)),
    "no_improvement_when_nothing_is_known": (NoImprovement(2), run(None, None, None, None)),
    "target_that_a_lucky_mean_reaches": (TargetReached(0.8), run(0.85, margin=WIDE)),
    "target_when_nothing_is_known": (TargetReached(0.0), run(None)),
    "buckets_with_a_failure": (EveryBucketSolved(steps=2), run(0.5, 0.5, floors=[1.0, 0.5])),
    "buckets_of_too_few_steps": (EveryBucketSolved(steps=3), run(0.5, 0.5, floors=[1.0])),
    "steps_without_buckets": (EveryBucketSolved(steps=1), run(0.5, floors=[])),
    "a_gain_that_is_small_only_twice": (NothingToGain(steps=3), expecting(0.05, 0.004, 0.004)),
    "a_gain_that_is_not_small_any_more": (NothingToGain(steps=3), expecting(0.004, 0.004, 0.011)),
    "a_gain_of_too_few_steps": (NothingToGain(steps=3), expecting(0.004, 0.004)),
    "a_search_that_is_over": (NothingToGain(steps=3), expecting(0.004, 0.004, 0.004, left=0)),
    "a_gain_that_the_policy_does_not_estimate": (NothingToGain(steps=3), expecting(None, None, None)),
    "time_that_is_left": (Timeout(60), run(0.5, seconds=59)),
    "a_function_that_returns_none": (lambda _: None, run(0.5)),
    "neither_of_two": (TargetReached(0.9) | Timeout(60), run(0.5)),
    "one_of_both": (TargetReached(0.4) & Timeout(60), run(0.5)),
}


@pytest.mark.parametrize("case", STOPS)
def test_stops(case: str) -> None:
    assert reason_to_stop(*STOPS[case])


@pytest.mark.parametrize("case", CONTINUES)
def test_continues(case: str) -> None:
    assert reason_to_stop(*CONTINUES[case]) is None


def test_both_reasons_are_given_if_both_are_needed() -> None:
    reason = reason_to_stop(TargetReached(0.4) & Timeout(60), run(0.5, seconds=61))
    assert reason is not None
    assert "target 0.4 is reached" in reason
    assert "61 s" in reason


def test_a_function_may_give_its_reason_in_words() -> None:
    assert reason_to_stop(lambda _: "it is late", run(0.5)) == "it is late"


def test_the_reason_names_the_best_and_what_more_calls_are_expected_to_add() -> None:
    reason = reason_to_stop(NothingToGain(steps=3), expecting(0.004, 0.004, 0.004))
    assert reason == "2,000 more calls are expected to add 0.004 to the best score"


BAD: dict[str, tuple[Any, str]] = {
    "no_patience": (lambda: NoImprovement(0), r"NoImprovement\(patience=0\): must be a whole number of steps"),
    "a_gain_that_is_no_number": (lambda: NothingToGain("1"), r"NothingToGain\(least_gain='1'\)"),  # pyright: ignore[reportArgumentType]
    "a_target_that_is_no_number": (lambda: TargetReached(float("nan")), r"TargetReached\(target=nan\)"),
    "a_score_that_is_no_number": (lambda: EveryBucketSolved(score="1"), r"EveryBucketSolved\(score='1'\)"),  # pyright: ignore[reportArgumentType]
    "no_steps": (lambda: EveryBucketSolved(steps=0), r"EveryBucketSolved\(steps=0\)"),
    "no_time": (lambda: Timeout(0), r"Timeout\(seconds=0\): must be above 0"),
    "a_number": (lambda: check_stop_when(0.9), "0.9 is neither a stopper nor a function"),
    "a_class": (lambda: check_stop_when(NoImprovement), "is neither a stopper"),
    "a_list": (lambda: check_stop_when([TargetReached(1)]), r"combine several with \|"),
    "a_number_beside_a_stopper": (lambda: TargetReached(1) | 5, "5 is neither a stopper"),  # pyright: ignore[reportOperatorIssue]
    "no_arguments": (lambda: check_stop_when(lambda: True), r"can't be called as f\(progress\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses_at_construction(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_async_function_is_refused() -> None:
    async def stop(progress: Progress) -> bool:
        return True

    with pytest.raises(ConfigError, match="is async"):
        check_stop_when(stop)


def test_a_function_that_raises_is_named_with_its_error() -> None:
    with pytest.raises(StopperError, match=r"raised after step 1: AttributeError: .*best_score"):
        reason_to_stop(lambda progress: progress.best_score > 1, run(0.5))  # type: ignore[attr-defined]


def test_a_function_that_exits_is_named_like_one_that_raises() -> None:
    with pytest.raises(StopperError, match=r"raised after step 1: SystemExit: enough"):
        reason_to_stop(lambda progress: sys.exit("enough"), run(0.5))


def test_a_function_that_returns_no_answer_is_named() -> None:
    with pytest.raises(StopperError, match=r"returned 0\.7 \(float\)"):
        reason_to_stop(lambda progress: 0.7, run(0.5))  # pyright: ignore[reportArgumentType]


class Broken(Stopper):
    def __call__(self, progress: Progress) -> str | None:
        raise ZeroDivisionError("of my own")


class Plain(Stopper):
    def __call__(self, progress: Progress) -> Any:
        return True


@pytest.mark.parametrize("stop_when", [Broken(), Plain() & Broken()])
def test_the_error_of_a_stopper_of_the_users_own_names_it(stop_when: Stopper) -> None:
    with pytest.raises(StopperError, match=r"stop_when: Broken raised after step 1: ZeroDivisionError: of my own"):
        reason_to_stop(stop_when, run(0.5))


def test_a_stopper_of_the_users_own_may_return_true() -> None:
    assert reason_to_stop(Plain() & Plain(), run(0.5)) == "Plain returned True and Plain returned True"
