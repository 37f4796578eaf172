"""An example that is never answered is set aside; an LM that is down pauses the run, and names where."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMInvalidRequestError, LMServerError

from simba_actors import Governor, Optimizer, OptimizerConfig, Retry
from simba_actors.errors import RunError, RunPausedError
from simba_actors.events import BucketsAnalyzed, ExampleSetAside, RunPaused, StepClosed
from simba_actors.lm.budget import Budget
from simba_actors.search.rollout import STUDENT_LM, ModelSpec, Rollout, RolloutKey, Split
from simba_actors.store import Reader
from simba_actors.store.doctor import check
from simba_actors.team.setting_aside import MOST_REJECTED, TRIES, SettingAside
from tests.support.quiz import questions, quiz_script
from tests.support.runs import events_of, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import PATIENCE, until

POISON = "What is the colour of ball 5?"


def poisoned(ask: Ask) -> Any:
    if POISON in ask.last:
        raise LMServerError("internal error")
    return quiz_script(ask)


def config_for(store: Path, script: Any, **changes: Any) -> OptimizerConfig:
    governor = Governor(retry=Retry(base=0.001, longest=0.001, attempts=3))
    lm = ScriptedLM(script)
    sizes: dict[str, Any] = {"bsize": 8, "lm": lm, "prompt_model": ScriptedLM(quiz_script), "governor": governor}
    return small_config(store, run_id="run", **(sizes | changes))


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_run_continues_without_an_example_that_is_never_answered(
    policy: str, concurrency: int, tmp_path: Path
) -> None:
    config = config_for(tmp_path / "simba.db", poisoned, policy=policy, max_concurrency=concurrency)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        event = await reach(optimizer, ExampleSetAside)
    async with await Reader.open(config.store) as reader:
        scored = {score.example for score in await reader.scores("run")}
    assert (event.split, event.example) == ("train", 5)
    assert "internal error" in event.reason
    assert 5 not in scored
    assert all(finding.ok for finding in await check(config.store))


async def test_a_run_continues_without_an_example_that_is_rejected_for_an_unknown_reason(tmp_path: Path) -> None:
    def picky(ask: Ask) -> Any:
        if POISON in ask.last:
            raise LMInvalidRequestError("not this one", status=400)
        return quiz_script(ask)

    config = config_for(tmp_path / "simba.db", picky, policy="dspy", max_steps=1)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        event = await reach(optimizer, ExampleSetAside)
    assert (event.example, "not this one" in event.reason) == (5, True)
    async with await Reader.open(config.store) as reader:
        assert 5 not in {score.example for score in await reader.scores("run")}


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_a_run_continues_without_several_examples_in_a_row_that_are_rejected(
    policy: str, concurrency: int, tmp_path: Path
) -> None:
    def picky(ask: Ask) -> Any:
        if any(f"ball {n}?" in ask.last for n in (4, 5, 6)):
            raise LMInvalidRequestError("not this one", status=400)
        return quiz_script(ask)

    config = config_for(tmp_path / "simba.db", picky, policy=policy, max_steps=1, max_concurrency=concurrency)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        events = await events_of(optimizer, ExampleSetAside)
    assert sorted(event.example for event in events) == [4, 5, 6]


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
async def test_a_run_continues_without_an_example_that_is_never_answered_and_is_all_that_a_step_runs(
    policy: str, tmp_path: Path
) -> None:
    config = config_for(tmp_path / "simba.db", poisoned, policy=policy, bsize=1, max_steps=8)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        events = await events_of(optimizer, ExampleSetAside)
    assert [event.example for event in events] == [5]


async def test_a_reply_that_can_not_be_parsed_shows_as_well_that_an_lm_is_reachable(
    tmp_path: Path,
) -> None:
    def script(ask: Ask) -> Any:
        is_to_show_that = ask.rollout_id is not None and ask.rollout_id > 1_000
        return "I would rather not say." if is_to_show_that else poisoned(ask)

    config = config_for(tmp_path / "simba.db", script, policy="dspy", bsize=1, max_steps=8)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        events = await events_of(optimizer, ExampleSetAside)
    assert [event.example for event in events] == [5]


async def test_a_step_without_scores_has_no_mean_score(tmp_path: Path) -> None:
    config = config_for(tmp_path / "simba.db", poisoned, policy="dspy", bsize=1, max_steps=8)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        analyzed = await events_of(optimizer, BucketsAnalyzed)
        closed = await events_of(optimizer, StepClosed)
    means = {event.step: event.sampled_mean for event in closed}
    (without,) = (event for event in analyzed if event.buckets == 0)
    assert (without.sampled_mean, without.p10, without.p90, means.pop(without.step)) == (None, None, None, None)
    assert None not in means.values()


class WaitsForOthers(dspy.Module):
    """Asks about POISON after so many other questions are answered."""

    def __init__(self, answered: list[Ask], others: int) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")
        self.others_are_answered = lambda: len(answered) >= others

    async def aforward(self, question: str) -> dspy.Prediction:
        if question == POISON:
            await until(self.others_are_answered)
        return await self.answer.acall(question=question)


async def test_an_outage_that_begins_with_the_last_rollouts_of_a_step_sets_no_example_aside(tmp_path: Path) -> None:
    others, is_down = 2 * 7, True
    answered: list[Ask] = []

    def script(ask: Ask) -> Any:
        if is_down and len(answered) >= others:
            raise LMServerError("internal error")
        answered.append(ask)
        return quiz_script(ask)

    config = config_for(tmp_path / "simba.db", script, student=WaitsForOthers(answered, others), policy="dspy")
    async with Optimizer.start(config) as optimizer:
        await reach(optimizer, RunPaused)
        is_down = False
        await optimizer.resume()
        await optimizer.result(PATIENCE)
        assert await events_of(optimizer, ExampleSetAside) == []


async def test_a_short_outage_that_several_rollouts_of_the_last_example_meet_does_not_set_it_aside(
    tmp_path: Path,
) -> None:
    answered: list[Ask] = []
    failures = Counter[int | None]()

    def script(ask: Ask) -> Any:
        failures[ask.rollout_id] += POISON in ask.last
        if POISON in ask.last and failures[ask.rollout_id] <= 3:
            raise LMServerError("internal error")
        answered.append(ask)
        return quiz_script(ask)

    student = WaitsForOthers(answered, 3 * 7)
    sizes: dict[str, Any] = {"num_candidates": 3, "max_steps": 1, "max_concurrency": 4}
    config = config_for(tmp_path / "simba.db", script, student=student, policy="dspy", **sizes)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        assert await events_of(optimizer, ExampleSetAside) == []


async def test_a_run_continues_after_a_step_whose_examples_are_all_set_aside(tmp_path: Path) -> None:
    def picky(ask: Ask) -> Any:
        if POISON in ask.last:
            raise LMInvalidRequestError("not this one", status=400)
        return quiz_script(ask)

    config = config_for(tmp_path / "simba.db", picky, bsize=1, max_steps=8)
    async with Optimizer.start(config) as optimizer:
        result = await optimizer.result(PATIENCE)
        assert (await optimizer.status()).restarts == {}
    assert result.steps == 8


async def test_an_lm_that_rejects_every_call_pauses_the_run(tmp_path: Path) -> None:
    def strict(ask: Ask) -> Any:
        raise LMInvalidRequestError("not this one", status=400)

    async with Optimizer.start(config_for(tmp_path / "simba.db", strict)) as optimizer:
        with pytest.raises(RunPausedError, match=r"paused for access.*not this one.*met by trainset\[\d\]"):
            await optimizer.result(PATIENCE)


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
async def test_a_run_that_is_started_again_leaves_out_what_was_set_aside(policy: str, tmp_path: Path) -> None:
    config = config_for(tmp_path / "simba.db", poisoned, policy=policy)
    async with Optimizer.start(config) as optimizer:
        await reach(optimizer, ExampleSetAside)
    again = ScriptedLM(poisoned)
    async with Optimizer.start(replace(config, lm=again)) as optimizer:
        await optimizer.result(PATIENCE)
        set_aside = await events_of(optimizer, ExampleSetAside)
    assert [(event.split, event.example) for event in set_aside] == [("train", 5)]
    assert not any(POISON in ask.last for ask in again.asks)


async def test_an_lm_that_is_down_names_an_example_that_met_it(tmp_path: Path) -> None:
    def down(ask: Ask) -> Any:
        raise LMServerError("internal error")

    async with Optimizer.start(config_for(tmp_path / "simba.db", down)) as optimizer:
        with pytest.raises(RunPausedError, match=r"met by trainset\[\d\]"):
            await optimizer.result(PATIENCE)


async def test_a_run_that_is_started_again_sets_aside_what_is_all_that_is_left(tmp_path: Path) -> None:
    failures = asyncio.Event()

    def script(ask: Ask) -> Any:
        if POISON in ask.last:
            failures.set()
        return poisoned(ask)

    config = config_for(tmp_path / "simba.db", script, bsize=1, max_steps=8, max_concurrency=1)
    async with Optimizer.start(config) as optimizer:
        await asyncio.wait_for(failures.wait(), PATIENCE)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        events = await events_of(optimizer, ExampleSetAside)
    assert [event.example for event in events] == [5]


class TwoLMs(dspy.Module):
    """Asks one LM about even balls and another one about odd ones."""

    def __init__(self, even: ScriptedLM, odd: ScriptedLM) -> None:
        super().__init__()
        self.even, self.odd = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
        self.even.lm, self.odd.lm = even, odd

    async def aforward(self, question: str) -> dspy.Prediction:
        is_odd = int(question.split()[-1].rstrip("?")) % 2
        return await (self.odd if is_odd else self.even).acall(question=question)


async def test_an_outage_of_one_of_two_lms_sets_no_example_aside(tmp_path: Path) -> None:
    answered, is_down = 0, True

    def script(ask: Ask) -> Any:
        nonlocal answered
        answered += 1
        if is_down and answered > 2:
            raise LMServerError("internal error")
        return quiz_script(ask)

    other = ScriptedLM(script)
    other.model = "scripted/other"
    student = TwoLMs(ScriptedLM(quiz_script), other)
    sizes: dict[str, Any] = {"bsize": 16, "num_candidates": 4, "max_concurrency": 16}
    store = tmp_path / "simba.db"
    config = config_for(store, quiz_script, student=student, trainset=questions(20), policy="adaptive", **sizes)
    async with Optimizer.start(config) as optimizer:
        await reach(optimizer, RunPaused)
        is_down = False
        await optimizer.resume()
        await optimizer.result(PATIENCE)
        assert await events_of(optimizer, ExampleSetAside) == []


class SecondLM(dspy.Module):
    """Asks `first` about all balls but a few, and `second` about those: about POISON once the others are answered."""

    def __init__(self, first: ScriptedLM, second: ScriptedLM, few: set[int], answered: list[Ask], others: int) -> None:
        super().__init__()
        self.first, self.second = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
        self.first.lm, self.second.lm = first, second
        self.few = few
        self.others_are_answered = lambda: len(answered) >= others

    async def aforward(self, question: str) -> dspy.Prediction:
        if question == POISON:
            await until(self.others_are_answered)
        is_one_of_few = int(question.split()[-1].rstrip("?")) in self.few
        return await (self.second if is_one_of_few else self.first).acall(question=question)


def with_second_lm(store: Path, script: Any, others: int = 0, **changes: Any) -> OptimizerConfig:
    """Return the config of a student that asks a second LM, with this script, about balls 1 and 5."""
    asks: list[Ask] = []
    second = ScriptedLM(script, asks=asks, **changes.pop("second", {}))
    second.model = "scripted/second"
    first = ScriptedLM(quiz_script, asks=asks)
    return config_for(store, quiz_script, student=SecondLM(first, second, {1, 5}, asks, others), **changes)


async def test_an_example_that_a_second_lm_never_answers_and_is_all_that_is_left_is_set_aside(tmp_path: Path) -> None:
    config = with_second_lm(tmp_path / "simba.db", poisoned, policy="dspy", max_concurrency=1)
    async with Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        events = await events_of(optimizer, ExampleSetAside)
    assert [event.example for event in events] == [5]


async def test_a_run_that_is_started_again_sets_aside_what_a_second_lm_never_answers(tmp_path: Path) -> None:
    failures = asyncio.Event()

    def script(ask: Ask) -> Any:
        if POISON in ask.last:
            failures.set()
        return poisoned(ask)

    store = tmp_path / "simba.db"
    settings: dict[str, Any] = {"policy": "dspy", "max_steps": 1, "max_concurrency": 2}
    async with Optimizer.start(with_second_lm(store, script, others=7, **settings)):
        await asyncio.wait_for(failures.wait(), PATIENCE)
    async with Optimizer.start(with_second_lm(store, script, **settings)) as optimizer:
        await optimizer.result(PATIENCE)
        events = await events_of(optimizer, ExampleSetAside)
    assert [event.example for event in events] == [5]


async def test_a_second_lm_that_hangs_pauses_the_run_and_is_named(tmp_path: Path) -> None:
    seconds = 3600.0
    slow = {"latency": lambda _: seconds}
    settings: dict[str, Any] = {"policy": "dspy", "max_concurrency": 4, "rollout_timeout": 1.0}
    config = with_second_lm(tmp_path / "simba.db", quiz_script, second=slow, **settings)
    async with Optimizer.start(config) as optimizer:
        paused = await reach(optimizer, RunPaused)
        assert "scripted/second hangs" in paused.reason
        seconds = 0.0
        await optimizer.resume()
        await optimizer.result(PATIENCE)
        assert await events_of(optimizer, ExampleSetAside) == []


async def test_a_budget_without_room_to_look_whether_an_lm_is_reachable_ends_the_run(tmp_path: Path) -> None:
    answered: list[Ask] = []

    class GrowsLong(dspy.Module):
        """Asks a long question as soon as all but the last of the others are answered."""

        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict("question -> answer")

        async def aforward(self, question: str) -> dspy.Prediction:
            is_long = len(answered) >= 13 and question != POISON
            return await self.answer.acall(question=question + " Think." * 5_000 * is_long)

    def script(ask: Ask) -> Any:
        reply = poisoned(ask)
        answered.append(ask)
        return reply

    settings: dict[str, Any] = {"student": GrowsLong(), "policy": "dspy", "max_concurrency": 1}
    config = config_for(tmp_path / "simba.db", script, budget=Budget(max_tokens=9_000), **settings)
    async with Optimizer.start(config) as optimizer:
        with pytest.raises(RunError, match="the budget's max_tokens is reached"):
            await optimizer.result(PATIENCE)
    assert len(answered) == 14


OTHER: tuple[Split, int] = ("train", 7)


def rollout(example: int, lm: str = STUDENT_LM) -> Rollout:
    return Rollout(RolloutKey(0, "sample", example), 0, example, ModelSpec(lm))


def test_two_examples_that_fail_one_after_the_other_are_an_outage() -> None:
    known = SettingAside(dict)
    assert known.note_failure(rollout(1), known.heard, others=[OTHER]) == "try again"
    assert known.note_failure(rollout(2), known.heard, others=[OTHER]) == "outage"


def test_an_example_that_fails_while_others_end_is_set_aside_after_enough_tries() -> None:
    known, verdicts = SettingAside(dict), list[str]()
    for _ in range(TRIES):
        before = known.heard
        known.note_end(rollout(2), known.heard)
        verdicts.append(known.note_failure(rollout(1), before, others=[OTHER]))
    assert verdicts == ["try again"] * (TRIES - 1) + ["set aside"]
    assert known.without([rollout(1), rollout(2)]) == (rollout(2),)


def test_failures_at_the_same_time_are_one_try() -> None:
    known = SettingAside(dict)
    before = known.heard
    known.note_end(rollout(2), known.heard)
    assert [known.note_failure(rollout(1), before, others=[OTHER]) for _ in range(TRIES)] == ["try again"] * TRIES


def test_an_example_that_ends_begins_with_no_failures() -> None:
    known, diagnoses = SettingAside(dict), list[str]()
    for _ in range(TRIES):
        before = known.heard
        known.note_end(rollout(2), known.heard)
        diagnoses.append(known.note_failure(rollout(1), before, others=[OTHER]))
        known.note_end(rollout(1), known.heard)
    assert diagnoses == ["try again"] * TRIES


@pytest.mark.parametrize("left", [[1], [1, 2]])
def test_a_failure_of_the_last_examples_is_unclear(left: list[int]) -> None:
    known = SettingAside(dict)
    known.note_end(rollout(3), known.heard)
    others: list[tuple[Split, int]] = [("train", example) for example in left]
    diagnoses = [known.note_failure(rollout(example), known.heard, others=others) for example in left]
    assert diagnoses == ["try again"] * (len(left) - 1) + ["unclear"]


def test_what_ended_before_a_failure_says_nothing_of_the_next_one() -> None:
    known = SettingAside(dict)
    at_first = known.heard
    known.note_end(rollout(2), known.heard)
    diagnoses = [known.note_failure(rollout(1), at_first, others=[])]
    diagnoses += [known.note_failure(rollout(1), known.heard, others=[]) for _ in range(TRIES - 1)]
    assert diagnoses == ["try again"] + ["unclear"] * (TRIES - 1)


def test_an_lm_of_the_pool_that_is_silent_is_down_though_others_answer() -> None:
    known, diagnoses = SettingAside(dict), list[str]()
    known.note_end(rollout(1, "teacher"), known.heard)
    for example in (1, 1, 2):
        before = known.heard
        known.note_end(rollout(3), known.heard)
        diagnoses.append(known.note_failure(rollout(example, "teacher"), before, others=[OTHER]))
    assert diagnoses == ["try again", "try again", "outage"]


@pytest.mark.parametrize("rejected", [False, True])
def test_an_endpoint_that_is_silent_is_down_though_rollouts_end(rejected: bool) -> None:
    known, diagnoses = SettingAside({"cheap": 5, "large": 0}.copy), list[str]()
    for example in range(MOST_REJECTED + 1):
        before = known.heard
        known.note_end(rollout(9), known.heard)
        failed = rollout(example)
        diagnoses.append(known.note_failure(failed, before, others=[OTHER], endpoint="large", rejected=rejected))
    assert diagnoses[-1] == "outage"
    assert "set aside" not in diagnoses
