"""A run ends properly when its stopper decides so, and reports why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from simba_actors import (
    Budget,
    NoImprovement,
    Optimizer,
    OptimizerConfig,
    OptimizerResult,
    Progress,
    TargetReached,
    Timeout,
)
from simba_actors.errors import ConfigError, RunError, StopperError
from simba_actors.events import OutlookEstimated, RunFinished, StepClosed, StepOpened, TrajectorySampled, TrendEstimated
from simba_actors.search.statistics.trend import trend_of
from simba_actors.store import Reader
from simba_actors.store.forking import fork
from tests.parity.scenarios import HintThenAnswer
from tests.support.quiz import questions, quiz_script
from tests.support.runs import asks_of, findings, finish, reach, settle, small_config
from tests.support.scripted_lm import CallCounter, ScriptedLM
from tests.support.waiting import PATIENCE
from tests.team.test_adaptive_runs import adaptive_config

CONFIGS = {"dspy": small_config, "adaptive": adaptive_config}


def config_for(policy: str, store: Path, **changes: Any) -> OptimizerConfig:
    return CONFIGS[policy](store, **{"max_steps": 4, "run_id": "run", **changes})


def after_two(progress: Progress) -> bool:
    return progress.step >= 2


async def progress_of(store: str | Path) -> Progress:
    async with await Reader.open(store) as reader:
        progress = await reader.progress("run")
    assert progress is not None
    return progress


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[OptimizerConfig, OptimizerResult]:
    """A run that took all of its four steps, and its result."""
    config = config_for("dspy", tmp_path_factory.mktemp("finished") / "simba.db")
    return config, asyncio.run(finish(config))


@pytest.mark.parametrize("policy", CONFIGS)
async def test_a_stopper_ends_the_search_and_the_winner_is_still_chosen(policy: str, tmp_path: Path) -> None:
    config = config_for(policy, tmp_path / "simba.db", stop_when=after_two)
    await finish(config)
    async with await Reader.open(config.store) as reader:
        phases = {score.key.phase for score in await reader.scores("run")}
        steps = await reader.steps("run")
    assert len(steps) == 2
    assert "final" in phases


async def test_a_time_limit_ends_the_search_after_the_current_step(tmp_path: Path) -> None:
    result = await finish(config_for("dspy", tmp_path / "simba.db", stop_when=Timeout(1e-6)))
    assert len(result.trial_logs) == 1
    assert "of 1e-06 s allowed" in result.reason
    assert len(result.candidate_programs) > 1


def solved(example: Any, prediction: Any, trace: Any = None) -> float:
    return 1.0


async def test_a_run_ends_by_itself_when_little_is_left_to_gain(tmp_path: Path) -> None:
    config = config_for("adaptive", tmp_path / "simba.db", metric=solved, max_steps=8)
    async with await Optimizer.start(config) as optimizer:
        expected = await reach(optimizer, OutlookEstimated)
        result = await optimizer.result(PATIENCE)
    assert result.steps == 5
    assert "more calls are expected to add 0.00" in result.reason
    assert result.outlook is not None
    assert result.outlook.gain < 0.01
    assert (expected.step, expected.gain < 0.01) == (0, True)


@pytest.mark.parametrize("policy", CONFIGS)
async def test_a_run_that_was_stopped_continues_without_a_stopper(policy: str, tmp_path: Path) -> None:
    first = await finish(config_for(policy, tmp_path / "simba.db", stop_when=after_two))
    again = await finish(config_for(policy, tmp_path / "simba.db", stop_when=after_two))
    whole = await finish(config_for(policy, tmp_path / "simba.db", stop_when=None))
    assert (first.steps, whole.steps) == (2, 4)
    assert first.usage == again.usage
    assert whole.usage.calls > first.usage.calls
    assert whole.reason == "all of its 4 steps are done"


async def test_a_run_without_a_stopper_uses_all_of_its_steps(tmp_path: Path) -> None:
    config = config_for("adaptive", tmp_path / "simba.db", metric=solved, stop_when=None)
    assert (await finish(config)).steps == 4


async def test_the_reason_is_in_the_result_the_status_and_the_events(tmp_path: Path) -> None:
    config = config_for("dspy", tmp_path / "simba.db", stop_when=lambda progress: "enough is enough")
    async with await Optimizer.start(config) as optimizer:
        event = await reach(optimizer, RunFinished)
        result, status = await optimizer.result(PATIENCE), await optimizer.status()
    assert {event.reason, result.reason, status.reason} == {"enough is enough"}


def test_a_run_that_takes_all_its_steps_says_so(finished: tuple[OptimizerConfig, OptimizerResult]) -> None:
    _, result = finished
    assert result.reason == "all of its 4 steps are done"


@pytest.fixture(scope="module", params=CONFIGS)
def stopped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OptimizerConfig:
    """The config of a run of each policy that its stopper ended."""
    store = tmp_path_factory.mktemp("stopped") / "simba.db"
    config = config_for(request.param, store, stop_when=NoImprovement(patience=1) | after_two)
    asyncio.run(finish(config))
    return config


@pytest.mark.parametrize("kind", [TrajectorySampled, StepClosed])
async def test_a_run_that_was_interrupted_stops_where_it_would_have(
    kind: type, stopped: OptimizerConfig, tmp_path: Path
) -> None:
    config = config_for(stopped.policy, tmp_path / "cut.db", stop_when=NoImprovement(patience=1) | after_two)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, kind)
    await finish(config)
    assert await findings(config, "run") == await findings(stopped, "run")


async def test_what_stoppers_see_is_kept_with_the_steps(tmp_path: Path) -> None:
    seen: list[Progress] = []
    config = config_for("adaptive", tmp_path / "simba.db", stop_when=seen.append)
    await finish(config)
    assert [progress.step for progress in seen] == [1, 2, 3, 4][: len(seen)]
    assert seen[-1].history == (await progress_of(config.store)).history


async def test_progress_includes_what_the_run_used(finished: tuple[OptimizerConfig, OptimizerResult]) -> None:
    config, result = finished
    first, *_, last = (await progress_of(config.store)).history
    assert 0 < first.usage.calls < last.usage.calls < result.usage.calls
    assert 0 < first.seconds < last.seconds


async def test_a_teachers_samples_do_not_count_as_the_students_progress(tmp_path: Path) -> None:
    config = config_for("dspy", tmp_path / "simba.db", num_candidates=1, teacher_lm=small_config(tmp_path / "x").lm)
    await finish(config)
    progress = await progress_of(config.store)
    assert (progress.sampled, progress.bucket_floors) == (None, ())


async def test_a_fork_continues_a_run_that_was_stopped(tmp_path: Path) -> None:
    config = config_for("dspy", tmp_path / "simba.db", stop_when=after_two)
    await finish(config)
    await fork(config.store, "run", at=2, new_run_id="more")
    result = await finish(config_for("dspy", tmp_path / "simba.db", run_id="more"))
    assert len(result.trial_logs) == 4


async def test_a_stopper_that_fails_ends_the_run_which_continues_with_a_fixed_one(tmp_path: Path) -> None:
    def broken(progress: Progress) -> bool:
        raise ZeroDivisionError("of my own")

    with pytest.raises(StopperError, match="broken raised after step 1: ZeroDivisionError: of my own"):
        await finish(config_for("dspy", tmp_path / "simba.db", stop_when=broken))
    result = await finish(config_for("dspy", tmp_path / "simba.db", stop_when=after_two))
    assert len(result.trial_logs) == 2


async def test_a_run_whose_stopper_failed_sends_no_more_calls(tmp_path: Path) -> None:
    def broken(progress: Progress) -> bool:
        raise ZeroDivisionError("of my own")

    sizes: dict[str, Any] = {"trainset": questions(200), "max_concurrency": 1}
    calls = CallCounter()
    lm = ScriptedLM(quiz_script, latency=0.01, callbacks=[calls])
    config = config_for("dspy", tmp_path / "simba.db", stop_when=broken, lm=lm, **sizes)
    async with await Optimizer.start(config) as optimizer:
        with pytest.raises(StopperError):
            await optimizer.result(PATIENCE)
        made = calls.made
        await settle(optimizer)
    assert calls.made == made


async def test_a_finished_run_has_nothing_to_pause_or_resume(tmp_path: Path) -> None:
    config = config_for("dspy", tmp_path / "simba.db", stop_when=after_two)
    async with await Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        await optimizer.pause()
        await optimizer.resume()
        assert (await optimizer.status()).status == "finished"


async def test_a_finished_run_stays_finished_without_its_stopper(tmp_path: Path) -> None:
    first = await finish(config_for("dspy", tmp_path / "simba.db", stop_when=after_two))
    again = config_for("dspy", tmp_path / "simba.db")
    assert (await finish(again)).reason == first.reason
    assert asks_of(again.lm) == []


def test_a_stop_when_that_is_not_a_stopper_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stop_when: 0\.9 is neither a stopper"):
        small_config(tmp_path / "simba.db", stop_when=0.9)


async def test_the_trend_is_known_from_the_fifth_step_on(tmp_path: Path) -> None:
    config = config_for("dspy", tmp_path / "simba.db", max_steps=6)
    async with await Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
    async with await Reader.open(config.store) as reader:
        events = await reader.events("run")
    trends = [event for event in events if isinstance(event, TrendEstimated)]
    assert [event.step for event in trends] == [4, 5]
    history = (await progress_of(config.store)).history
    trend = trend_of([step.sampled for step in history if step.sampled is not None])
    assert trend is not None
    assert (trends[-1].direction, trends[-1].slope) == (trend.direction, trend.slope)


async def test_a_target_that_is_out_of_reach_changes_nothing(
    finished: tuple[OptimizerConfig, OptimizerResult], tmp_path: Path
) -> None:
    plain, _ = finished
    aiming = config_for("dspy", tmp_path / "aiming.db", stop_when=TargetReached(1.0))
    async with await Optimizer.start(aiming) as optimizer:
        await reach(optimizer, StepOpened)
        await optimizer.result(PATIENCE)
    assert await findings(aiming, "run") == await findings(plain, "run")


async def test_a_run_whose_budget_ends_before_any_rollout_does_has_no_score(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", student=HintThenAnswer(), budget=Budget(max_calls=1))
    with pytest.raises(RunError, match=r"no program has a score yet: the budget's max_calls"):
        await finish(config)


async def test_a_search_whose_calls_are_spent_before_its_steps_says_so(tmp_path: Path) -> None:
    config = config_for("adaptive", tmp_path / "simba.db", stop_when=None, budget=Budget(max_calls=60), max_steps=24)
    result = await finish(config)
    assert result.reason == f"the calls of its search are spent, after {result.steps} of 24 steps"
