"""Live programs run what was published last."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors.errors import ConfigError, NoPredictorsError, PublicationError
from simba_actors.live import LiveProgram
from simba_actors.live.follower import POLL_SECONDS
from simba_actors.live.router import Router
from simba_actors.programs import Choice, Configuration, ConfigurationSpace, Float
from simba_actors.publishing.channel import Channel
from tests.support.live import ManualClock, answer, publish, publish_elsewhere, said, said_by, sayer
from tests.support.quiz import exact
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "simba.db"


async def test_an_lm_setting_is_served_where_the_space_has_it(store: Path) -> None:
    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(student, settings={"self.temperature": Float(0.0, 1.0)})
    live = LiveProgram(student, store=store, space=space)
    async with await Channel.open(store, "default") as channel:
        await channel.publish(space.extract(student).with_setting("self.temperature", 0.7), expected=0, reason="try it")
    with dspy.context(lm=ScriptedLM(lambda ask: {"answer": str(ask.temperature)})):
        assert (await live.acall(question="?")).answer == "0.7"


async def test_a_publication_of_this_process_is_seen_by_the_next_call(store: Path) -> None:
    live = LiveProgram(sayer(), store=store)
    answers = [await answer(live)]
    for word in ("one", "two"):
        await publish(store, word)
        answers.append(await answer(live))
    assert (answers, live.version) == (["nothing", "one", "two"], 2)


async def test_a_sync_call_sees_it_too(store: Path) -> None:
    await publish(store, "one")
    assert LiveProgram(sayer(), store=store)(question="?").answer == "one"


def test_a_publication_of_another_process_is_seen_by_the_first_call_after_a_quarter_of_a_second(store: Path) -> None:
    clock = ManualClock()
    router = Router(sayer(), store, "default", clock=clock)
    publish_elsewhere(store, "one")
    router.sync()
    publish_elsewhere(store, "two")
    router.sync()
    seen_at_once = router.routing_table.current.version
    clock.now += POLL_SECONDS
    router.sync()
    assert (seen_at_once, router.routing_table.current.version, POLL_SECONDS) == (1, 2, 0.25)


FOLLOWING = """
import asyncio, sys
from simba_actors import LiveProgram
from tests.support.live import answer, sayer

async def main():
    live, before = LiveProgram(sayer(), store=sys.argv[1]), None
    while before != "two":
        if (said := await answer(live)) != before:
            print(before := said, flush=True)
        await asyncio.sleep(0.01)

asyncio.run(main())
"""


async def test_a_service_in_another_process_takes_up_what_is_published_here(store: Path) -> None:
    command = [sys.executable, "-c", FOLLOWING, str(store)]
    service = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL, env=os.environ)
    assert service.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            assert await service.stdout.readline() == b"nothing\n"
            for word in ("one", "two"):
                await publish(store, word)
                assert await service.stdout.readline() == f"{word}\n".encode()
            assert await service.wait() == 0
    finally:
        if service.returncode is None:
            service.kill()
            await asyncio.wait_for(service.wait(), PATIENCE)


async def test_the_student_itself_is_never_changed(store: Path) -> None:
    student = sayer()
    live = LiveProgram(student, store=store)
    await publish(store, "one")
    await answer(live)
    assert (said_by(student), live.student is student) == ("nothing", True)


async def test_a_run_keeps_the_version_that_it_began_with(store: Path) -> None:
    class TwoQuestions(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask: Any = sayer()

        async def aforward(self, between: Any) -> list[str]:
            first = await answer(self.ask)
            await between()
            return [first, await answer(self.ask)]

    async def publish_next() -> None:
        async with await Channel.open(store, "default") as channel:
            configuration = Configuration.of({"ask": ("Say next.", [])})
            await channel.publish(configuration, expected=0, reason="?")
        live.sync_variables()
        assert live.version == 1

    async def nothing() -> None: ...

    live = LiveProgram(TwoQuestions(), store=store)
    assert await live.acall(publish_next) == ["nothing", "nothing"]
    assert await live.acall(nothing) == ["next", "next"]


async def test_the_runs_of_a_call_block_share_a_version(store: Path) -> None:
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store)
    with live.call() as call:
        first = await answer(live)
        await publish(store, "two")
        second = await answer(live)
    assert ([first, second], call.version, await answer(live)) == (["one", "one"], 1, "two")


async def test_a_rollback_is_seen_by_the_next_call(store: Path) -> None:
    await publish(store, "one", "two")
    live = LiveProgram(sayer(), store=store)
    assert await answer(live) == "two"
    async with await Channel.open(store, "default") as channel:
        await channel.rollback(reason="worse")
    assert (await answer(live), live.version) == ("one", 3)


async def test_a_student_without_an_async_side_does_not_stop_the_loop(store: Path) -> None:
    loop_went_on = threading.Event()

    class Blocking(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask: Any = sayer()

        def forward(self) -> bool:
            return loop_went_on.wait(PATIENCE)

    live = LiveProgram(Blocking(), store=store)
    running = asyncio.ensure_future(live.acall())
    await asyncio.sleep(0)
    loop_went_on.set()
    assert await running


async def test_many_calls_at_a_time_see_one_version_or_the_next(store: Path) -> None:
    live = LiveProgram(sayer(latency=0.001), store=store)
    await publish(store, "one")
    calls = [asyncio.ensure_future(answer(live)) for _ in range(50)]
    await publish(store, "two")
    calls += [asyncio.ensure_future(answer(live)) for _ in range(50)]
    answers = await asyncio.gather(*calls)
    assert (set(answers[:50]) <= {"one", "two"}, set(answers[50:])) == (True, {"two"})


async def test_a_live_program_is_a_module_with_the_students_predictors(store: Path) -> None:
    live = LiveProgram(sayer(), store=store)
    assert isinstance(live, dspy.Module)
    assert [name for name, _ in live.named_predictors()] == ["student"]


async def test_a_copy_of_a_live_program_follows_no_channel_and_can_be_changed(store: Path) -> None:
    live = LiveProgram(sayer(), store=store)
    await publish(store, "one")
    copied: Any = live.deepcopy()
    unchanged = await answer(copied)
    copied.student.signature = copied.student.signature.with_instructions("Say changed.")
    assert (unchanged, await answer(copied), copied(question="?").answer) == ("nothing", "changed", "changed")
    assert (copied.version, await answer(live)) == (0, "one")


async def test_a_copy_around_a_student_without_an_async_side_has_one(store: Path) -> None:
    class Sync(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask: Any = sayer()

        def forward(self, question: str) -> Any:
            return self.ask(question=question)

    assert await answer(LiveProgram(Sync(), store=store).deepcopy()) == "nothing"


async def test_a_copy_has_no_calls_to_report_on(store: Path) -> None:
    copied: Any = LiveProgram(sayer(), store=store).deepcopy()
    with pytest.raises(PublicationError, match="this LiveProgram follows no channel, since it is a copy"):
        copied.call()


def test_what_dspy_compiles_of_a_live_program_has_the_demos(store: Path) -> None:
    live, lm = LiveProgram(dspy.Predict("question -> answer"), store=store), ScriptedLM(said)
    rows = [dspy.Example(question=f"{n}?", answer="nothing").with_inputs("question") for n in range(2)]
    optimizer = dspy.BootstrapFewShot(metric=exact, max_bootstrapped_demos=2, max_labeled_demos=0)
    with dspy.context(lm=lm):
        optimizer.compile(live, trainset=rows)(question="2?")
    assert sum(role == "assistant" for role, _ in lm.asks[-1].messages) == 2


def test_a_student_without_predictors_and_a_channel_without_a_name_are_refused(store: Path) -> None:
    with pytest.raises(NoPredictorsError):
        LiveProgram(dspy.Module(), store=store)
    for name in ("", "\ud800"):
        with pytest.raises(ConfigError, match="must be a string of 1 to 100"):
            LiveProgram(sayer(), store=store, channel=name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"student": "bot"}, "student must be a dspy.Module, not str: 'bot'"),
        ({"store": None}, "store=None: must be the path of a file"),
        ({"space": "answer"}, "space must be a ConfigurationSpace"),
    ],
)
def test_what_is_of_another_type_is_refused_by_name(given: dict[str, Any], message: str, store: Path) -> None:
    values: dict[str, Any] = {"student": sayer(), "store": store, **given}
    with pytest.raises(ConfigError, match=message):
        LiveProgram(**values)


async def test_lms_of_the_student_are_those_of_its_versions(store: Path) -> None:
    lm = ScriptedLM(said)
    with dspy.context(lm=lm):
        live = LiveProgram(dspy.Predict("question -> answer"), store=store)
        await publish(store, "one")
        assert (await answer(live), len(lm.asks)) == ("one", 1)


@pytest.mark.parametrize("published", [0, 1])
async def test_setting_the_lm_counts_for_every_version(published: int, store: Path) -> None:
    live, lm = LiveProgram(sayer(), store=store), ScriptedLM(said)
    await publish(store, *["one"][:published])
    await answer(live)
    live.set_lm(lm)
    await answer(live)
    assert (len(lm.asks), live.version) == (1, published)


async def test_setting_the_lm_leaves_the_one_that_a_version_names(store: Path) -> None:
    student, small, large = sayer(), ScriptedLM(said), ScriptedLM(said)
    settings, lms = {"self.lm": Choice(("small", "large"))}, {"small": small, "large": large}
    space = ConfigurationSpace.from_module(student, settings=settings, lms=lms)
    live = LiveProgram(student, store=store, space=space)
    async with await Channel.open(store, "default") as channel:
        await channel.publish(space.extract(student).with_setting("self.lm", "large"), expected=0, reason="?")
    await answer(live)
    live.set_lm(small)
    await answer(live)
    assert (len(small.asks), len(large.asks)) == (0, 2)
