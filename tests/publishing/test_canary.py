"""A canary runs for a share of calls until their scores decide about it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Optimizer
from simba_actors.errors import ConfigError, PublicationError, UnknownCallError
from simba_actors.events import CanaryJudged, ProgramPublished
from simba_actors.live import LiveProgram, VariableAware
from simba_actors.observe import follow_channel
from simba_actors.publishing.canary import MOST_SCORES, canary_scores, decide
from simba_actors.publishing.channel import Channel
from simba_actors.search.statistics.sequential_test import Sums
from tests.support.live import answer, publish, sayer, start_canary
from tests.support.logs import logged_by
from tests.support.runs import events_of, small_config
from tests.support.waiting import PATIENCE


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "simba.db"


async def answers_by_key(live: LiveProgram, keys: range) -> dict[str, str]:
    answers: dict[str, str] = {}
    for key in map(str, keys):
        with live.call(key=key):
            answers[key] = await answer(live)
    return answers


async def scored_calls(live: LiveProgram, worth: dict[str, float], calls: int) -> None:
    """Report a score for each answer, with a spread that does not depend on the version."""
    for number in range(calls):
        with live.call(key=str(number)) as call:
            said = await answer(live)
        live.report(worth[said] + (0.1 if number % 2 else -0.1), call.id)
    live.close()


async def newest(store: Path) -> Any:
    async with await Channel.open(store, "default") as channel:
        return (await channel.history())[-1]


async def test_a_key_stays_on_one_version(store: Path) -> None:
    await publish(store, "old")
    await start_canary(store, "new", 0.5)
    live = LiveProgram(sayer(), store=store)
    first = await answers_by_key(live, range(40))
    assert first == await answers_by_key(LiveProgram(sayer(), store=store), range(40))
    assert set(first.values()) == {"old", "new"}


async def test_a_canary_gets_its_share_of_calls(store: Path) -> None:
    await publish(store, "old")
    await start_canary(store, "new", 0.2)
    live = LiveProgram(sayer(), store=store)
    live.sync_variables()
    picks = [live._followed().routing_table.pick(str(key)).version for key in range(10_000)]
    assert 0.18 < picks.count(2) / len(picks) < 0.22


async def test_another_canary_is_given_to_other_keys(store: Path) -> None:
    await publish(store, "old")
    drawn: list[set[str]] = []
    live = LiveProgram(sayer(), store=store)
    for word in ("new", "newer"):
        await start_canary(store, word, 0.5)
        answers = await answers_by_key(live, range(40))
        drawn.append({key for key, said in answers.items() if said == word})
    assert drawn[0] != drawn[1]


async def test_a_user_is_on_one_version_of_a_live_program_within_another(store: Path, tmp_path: Path) -> None:
    await publish(store, "old")
    await start_canary(store, "new", 0.5)
    outer, inner = LiveProgram(sayer(), store=tmp_path / "other.db"), LiveProgram(sayer(), store=store)
    alone = await answers_by_key(inner, range(20))
    for key, said in alone.items():
        with outer.call(key=key):
            assert await answer(inner) == said


async def test_a_better_canary_is_promoted_with_the_reason(store: Path) -> None:
    await publish(store, "old")
    await start_canary(store, "new", 0.5)
    await scored_calls(LiveProgram(sayer(), store=store), {"old": 0.2, "new": 0.8}, 80)
    version = await newest(store)
    assert (version.kind, version.origin, version.publisher) == ("promote", 2, "canary test")
    assert version.reason.startswith("canary 2 is better, mean 0.")
    live = LiveProgram(sayer(), store=store)
    assert [await answer(live), live.version] == ["new", 3]


async def test_a_worse_canary_is_rolled_back_with_the_reason(store: Path) -> None:
    await publish(store, "old")
    await start_canary(store, "new", 0.5)
    live = LiveProgram(sayer(), store=store)
    await scored_calls(live, {"old": 0.8, "new": 0.2}, 80)
    version = await newest(store)
    assert (version.kind, version.origin) == ("rollback", 1)
    assert version.reason.startswith("canary 2 is worse, mean 0.")
    assert await answer(live) == "old"


async def test_an_equal_canary_goes_on(store: Path) -> None:
    await publish(store, "old")
    await start_canary(store, "new", 0.5)
    await scored_calls(LiveProgram(sayer(), store=store), {"old": 0.5, "new": 0.5}, 80)
    assert (await newest(store)).kind == "canary"


def test_a_canary_that_is_no_better_in_the_end_is_rolled_back() -> None:
    half = Sums.of([0.0, 1.0] * (MOST_SCORES // 4))
    assert decide(half, half) is not None
    assert decide(half, Sums.of([0.0, 1.0] * 100)) is None


async def test_a_metric_scores_every_call(store: Path) -> None:
    def likes_new(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        return prediction.answer == "new" and example.question == "?"

    await publish(store, "old")
    await start_canary(store, "new", 0.5)
    live = LiveProgram(sayer(), store=store, metric=likes_new)
    for _ in range(80):
        await answer(live)
    live.close()
    assert (await newest(store)).kind == "promote"


@pytest.mark.parametrize("error", [KeyError("no"), SystemExit("no")])
async def test_a_metric_that_raises_fails_no_call(
    error: BaseException, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        raise error

    await publish(store, "one")
    live = LiveProgram(sayer(), store=store, metric=broken)
    assert [await answer(live), await answer(live)] == ["one", "one"]
    live.close()
    (warning,) = logged_by(caplog, "simba_actors.live.recording")
    assert warning == f"a call of channel 'default' was not scored: {type(error).__name__}: {error}"


async def test_a_score_may_come_from_another_process_and_counts_once(store: Path) -> None:
    await publish(store, "old")
    await start_canary(store, "new", 0.5)
    live = LiveProgram(sayer(), store=store)
    with live.call(key="ann") as call:
        await answer(live)
    elsewhere = LiveProgram(sayer(), store=store)
    elsewhere.report(0.7, call.id)
    elsewhere.report(0.1, call.id)
    elsewhere.close()
    async with await Channel.open(store, "default") as channel:
        scores = await channel._read.ask(canary_scores, "default", 2)
    assert scores == {call.version: Sums(1, 0.7, 0.7 * 0.7)}


async def test_the_verdict_is_an_event_of_the_run_that_the_program_is_from(tmp_path: Path) -> None:
    student = dspy.Predict("question -> answer")
    config = small_config(tmp_path / "simba.db", student=student)
    live = LiveProgram(student, store=config.store)
    async with await Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        await optimizer.publish(1, share=0.5, reason="try it")
        with dspy.context(lm=config.lm):
            for number in range(120):
                with live.call(key=str(number)) as call:
                    await live.acall(question="What is the colour of ball 1?")
                live.report(float(call.version == 2) + 0.1 * (number % 2), call.id)
        live.close()
        found = await events_of(optimizer, ProgramPublished)
    assert [(event.kind, event.program) for event in found] == [("publish", 0), ("canary", 1), ("promote", 1)]
    assert "canary 2 is better" in found[-1].reason


async def test_the_verdict_is_reported_to_the_run_of_the_canary_also_where_no_program_of_a_run_is_served_after_it(
    store: Path,
) -> None:
    config = small_config(store, student=sayer())
    async with await Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        await publish(store, "old")
        await optimizer.publish(0, share=0.5, expected=1, reason="try it")
        await scored_calls(LiveProgram(sayer(), store=store), {"old": 0.8, "nothing": 0.2}, 80)
        found = await events_of(optimizer, CanaryJudged)
    version = await newest(store)
    assert (version.kind, version.run_id) == ("rollback", None)
    assert [(event.program, event.canary, event.verdict, event.reason) for event in found] == [
        (0, 2, "rollback", version.reason)
    ]


async def test_who_follows_a_channel_hears_the_verdict_on_a_canary_of_no_run(store: Path) -> None:
    await publish(store, "old")
    await start_canary(store, "new", 0.5)
    async with asyncio.timeout(PATIENCE), aclosing(follow_channel(store, "default")) as versions:
        before = [(await anext(versions)).kind for _ in range(2)]
        await scored_calls(LiveProgram(sayer(), store=store), {"old": 0.2, "new": 0.8}, 80)
        judged = await anext(versions)
    assert [*before, judged.kind] == ["publish", "canary", "promote"]
    assert judged.reason.startswith("canary 2 is better, mean 0.")


async def test_what_is_no_score_and_no_call_is_refused(store: Path) -> None:
    await publish(store, "old")
    live = LiveProgram(sayer(), store=store)
    with live.call() as call:
        with pytest.raises(PublicationError, match="no version and no id before its first run"):
            _ = call.id
        await answer(live)
    for score in (float("nan"), float("inf"), 1e200, 10**400, "good", None):
        with pytest.raises(ConfigError, match=r"must be a number between -1e\+18 and 1e\+18"):
            live.report(score, call.id)  # pyright: ignore[reportArgumentType]
    for call_id in ("", "nope", "1.2", "a.b.c", "1.2.3.4", 7, "²..", "1.2.x y", f"1.{2**63}.a", f"{'9' * 5000}.1.a"):
        with pytest.raises(UnknownCallError, match="is not the id of a call"):
            live.report(1.0, call_id)  # pyright: ignore[reportArgumentType]


async def test_a_report_that_is_refused_takes_no_other_along(store: Path) -> None:
    await publish(store, "old")
    await start_canary(store, "new", 0.5)
    live = LiveProgram(sayer(), store=store)
    live.report(0.5, "2.2.a")
    for score, call_id in ((1.0, f"{'9' * 30}.1.a"), (1e200, "2.2.b")):
        with pytest.raises((ConfigError, UnknownCallError)):
            live.report(score, call_id)
    live.report(0.5, "2.2.c")
    live.close()
    async with await Channel.open(store, "default") as channel:
        assert await channel._read.ask(canary_scores, "default", 2) == {2: Sums(2, 1.0, 0.5)}


async def test_a_missing_store_fails_no_report(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    live = LiveProgram(sayer(), store=store)
    live.report(1.0, "2.2.abc")
    live.close()
    assert "can't be stored" in caplog.text


def test_a_module_that_follows_nothing_has_no_calls() -> None:
    with pytest.raises(PublicationError, match="follows no channel"):
        VariableAware().call()


@pytest.mark.parametrize(
    "wanted",
    [
        {"keep_examples": -1},
        {"keep_examples": True},
        {"keep_examples": "5"},
        {"metric": "f1"},
        {"metric": test_a_key_stays_on_one_version},
    ],
)
def test_what_is_to_be_noted_is_checked(wanted: Any, store: Path) -> None:
    with pytest.raises(ConfigError):
        LiveProgram(sayer(), store=store, **wanted)
