"""How far a run has come."""

from __future__ import annotations

from dataclasses import asdict

import orjson

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.policy import StepResult
from simba_actors.search.progress import Progress, progress_of, stored_progress
from simba_actors.search.quality import Outlook, Quality
from simba_actors.search.rollout import ModelSpec, RolloutKey, Usage


def after(steps: int) -> Progress:
    progress: Progress | None = None
    for step in range(steps):
        known = Evidence([Score(RolloutKey(step, "sample", 0), 0, 0, 0.1 * step)])
        progress = progress_of(step, None, None, known, Usage(calls=step), float(step), progress)
    assert progress is not None
    return progress


def test_the_outlook_is_read_from_the_result_of_its_step() -> None:
    best, outlook = Quality(1, 0.5, 0.4, 0.6), Outlook(0.02, 0.02, 100, 400)
    known = Evidence([Score(RolloutKey(0, "sample", 0), 0, 0, 0.5)])
    progress = progress_of(0, best, outlook, known, Usage(calls=110), 1.0, None)
    result = StepResult(None, {}, None, best, outlook=outlook).to_json()
    assert stored_progress([(0, result, progress.to_store())]) == progress
    assert progress.calls_left == 440


def size(progress: Progress) -> int:
    return len(orjson.dumps(asdict(progress)))


def test_its_size_as_plain_data_is_that_of_one_step() -> None:
    assert size(after(400)) < 1.5 * size(after(50))


def test_history_has_each_closed_step_once() -> None:
    assert [each.step for each in after(4).history] == [1, 2, 3, 4]


def test_the_trend_is_that_of_what_all_steps_sampled() -> None:
    trend = after(6).trend
    assert trend is not None
    assert trend.direction == "improving"


def test_stored_steps_give_the_same_progress() -> None:
    progress = after(3)
    stored = stored_progress((each.step - 1, {"best": None}, each.to_store()) for each in progress.history)
    assert stored is not None
    assert (stored, stored.history) == (progress, progress.history)


def test_samples_of_other_lms_say_nothing_about_the_student() -> None:
    key = RolloutKey(0, "sample", 0)
    known = Evidence([Score(key, 0, 0, 1.0, ModelSpec("teacher"))])
    progress = progress_of(0, None, None, known, Usage(), 0.0, None)
    assert (progress.sampled, progress.bucket_floors) == (None, ())
