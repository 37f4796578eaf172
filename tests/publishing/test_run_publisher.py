"""An optimizer publishes what it finds: by hand, or on its own when the evidence is clear."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Optimizer
from simba_actors.errors import ConfigError, MisfitError, RunError, UnknownProgramError, VersionConflictError
from simba_actors.events import Event, ProgramPublished, StepClosed
from simba_actors.live import LiveProgram, VariableAware
from simba_actors.observe import follow_events
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.publishing.channel import Channel
from simba_actors.search.rollout import STUDENT
from tests.support.live import sayer
from tests.support.quiz import questions, quiz_script
from tests.support.runs import events_of, finish, reach, small_config
from tests.support.scripted_lm import Ask, Script, ScriptedLM
from tests.support.waiting import PATIENCE


def config(tmp_path: Path, **changes: Any) -> Any:
    return small_config(tmp_path / "simba.db", channel="bot", **changes)


def knows_with_demos(ask: Ask) -> dict[str, Any] | str:
    """Answer wrong without demos and right with them: a difference beyond doubt."""
    if "module_advice" in ask.fields:
        return quiz_script(ask)
    helped = any(role == "assistant" for role, _ in ask.messages)
    lucky = ask.chance("luck") < 0.3 and ask.temperature == 1.0
    return {"answer": right(ask) if helped or lucky else "mauve"}


def right(ask: Ask) -> str:
    return next(row.answer for row in questions(40) if row.question == ask.input("question"))


def clear_config(tmp_path: Path, **changes: Any) -> Any:
    return config(tmp_path, **{"trainset": questions(40), "bsize": 8, "lm": ScriptedLM(knows_with_demos), **changes})


def knows_by_chance(ask: Ask) -> dict[str, Any] | str:
    """Answer right half of the time, whatever the prompt."""
    if "module_advice" in ask.fields:
        return quiz_script(ask)
    return {"answer": right(ask) if ask.chance("luck") < 0.5 else "mauve"}


def adaptive_config(tmp_path: Path, script: Script) -> Any:
    settings: dict[str, Any] = {"policy": "adaptive", "publish": "best", "bsize": 32, "max_steps": 8, "stop_when": None}
    return config(tmp_path, trainset=questions(40), lm=ScriptedLM(script), max_concurrency=16, **settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a store with a finished run."""
    directory = tmp_path_factory.mktemp("finished")
    asyncio.run(finish(config(directory)))
    return directory


@pytest.fixture
def ended(finished: Path, tmp_path: Path) -> Path:
    """A directory with a copy of that store. A run of `config(ended)` has its result at once."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


async def history(tmp_path: Path) -> list[Any]:
    async with await Channel.open(tmp_path / "simba.db", "bot") as channel:
        return await channel.history()


async def test_the_winner_is_published_and_seen_by_the_next_call(tmp_path: Path) -> None:
    student = dspy.Predict("question -> answer")
    live = LiveProgram(student, store=tmp_path / "simba.db", channel="bot")
    async with await Optimizer.start(config(tmp_path, student=student)) as optimizer:
        result = await optimizer.result(PATIENCE)
        await optimizer.publish(reason="the winner", by="ann")
        live.sync_variables()
    space = ConfigurationSpace.from_module(student)
    (version,) = await history(tmp_path)
    assert (live.version, version.program, version.publisher) == (1, result.program.simba_idx, "ann")  # pyright: ignore[reportAttributeAccessIssue]
    assert version.digest == space.extract(result.program).digest


async def test_a_publication_is_an_event_of_its_run(ended: Path) -> None:
    async with await Optimizer.start(config(ended)) as optimizer:
        await optimizer.result(PATIENCE)
        await optimizer.publish(0, reason="to begin with")
        await optimizer.publish(1, share=0.5, reason="try it")
        await optimizer.rollback(reason="no good")
        published = [
            (event.program, event.version, event.kind, event.reason)
            for event in await events_of(optimizer, ProgramPublished)
        ]
    assert published == [
        (0, 1, "publish", "to begin with"),
        (1, 2, "canary", "try it"),
        (0, 3, "rollback", "no good"),
    ]


async def test_a_run_hears_that_another_runs_program_takes_the_place_of_its_own(tmp_path: Path) -> None:
    for program, run_id in ((1, "first"), (2, "second")):
        async with await Optimizer.start(config(tmp_path, run_id=run_id)) as optimizer:
            await optimizer.result(PATIENCE)
            await optimizer.publish(program)
            if run_id == "second":
                await optimizer.rollback(reason="no good")
            published = await events_of(optimizer, ProgramPublished)
    assert [(event.version, event.kind, event.source) for event in published] == [
        (2, "publish", "second"),
        (3, "rollback", "first"),
    ]


async def test_candidates_of_a_module_that_follows_a_channel_run_as_they_are(tmp_path: Path) -> None:
    class Bot(VariableAware):
        def __init__(self) -> None:
            super().__init__()
            self.answer: Any = dspy.Predict("question -> answer")

        async def aforward(self, question: str) -> Any:
            return await self.answer.acall(question=question)

    bot, lm = Bot(), ScriptedLM(knows_with_demos)
    bot.follow(tmp_path / "simba.db", channel="bot")
    async with await Optimizer.start(clear_config(tmp_path, student=bot, lm=lm, policy="adaptive")) as optimizer:
        await optimizer.result(PATIENCE)
    assert any(role == "assistant" for ask in lm.asks if ask.fields == ["answer"] for role, _ in ask.messages)


async def test_publishing_amid_a_run_does_not_disturb_it(tmp_path: Path) -> None:
    async with await Optimizer.start(config(tmp_path)) as optimizer:
        async with asyncio.timeout(PATIENCE):
            async for event in optimizer.events():
                if isinstance(event, StepClosed):
                    await optimizer.publish(event.step + 1)
        seqs = [event.seq for event in await events_of(optimizer, Event)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert [version.program for version in await history(tmp_path)] == [1, 2]


async def test_a_canary_on_an_empty_channel_is_compared_with_the_student_itself(ended: Path) -> None:
    async with await Optimizer.start(config(ended)) as optimizer:
        await optimizer.result(PATIENCE)
        await optimizer.publish(1, share=0.2)
    kinds = [(version.kind, version.program) for version in await history(ended)]
    assert kinds == [("publish", 0), ("canary", 1)]


async def test_what_somebody_else_published_is_not_overwritten_unseen(ended: Path) -> None:
    async with await Optimizer.start(config(ended)) as optimizer:
        await optimizer.result(PATIENCE)
        async with await Channel.open(ended / "simba.db", "bot") as channel:
            await channel.publish(Configuration.of({"self": ("Guess.", [])}), expected=0, reason="urgent", by="bob")
        with pytest.raises(VersionConflictError, match=r"bob was first \(publish: urgent\)"):
            await optimizer.publish()
        published = await optimizer.publish(expected=1)
    assert published.version == 2


async def test_what_somebody_else_made_of_the_runs_own_versions_is_not_overwritten_unseen(ended: Path) -> None:
    async with await Optimizer.start(config(ended)) as optimizer:
        await optimizer.result(PATIENCE)
        await optimizer.publish(0)
        await optimizer.publish(1)
        async with await Channel.open(ended / "simba.db", "bot") as channel:
            await channel.rollback(reason="offensive", by="ann")
        with pytest.raises(VersionConflictError, match=r"ann was first \(rollback: offensive\)"):
            await optimizer.publish(2)


async def test_what_a_run_published_on_its_own_counts_as_seen(tmp_path: Path) -> None:
    async with await Optimizer.start(clear_config(tmp_path, publish="best")) as optimizer:
        await optimizer.result(PATIENCE)
        automatic = await history(tmp_path)
        published = await optimizer.publish(0)
    assert published.version == len(automatic) + 1 > 1


async def test_the_verdict_on_a_canary_counts_as_seen(ended: Path) -> None:
    async with await Optimizer.start(config(ended)) as optimizer:
        await optimizer.result(PATIENCE)
        await optimizer.publish(1, share=0.5)
        live = LiveProgram(sayer(), store=ended / "simba.db", channel="bot")
        for _ in range(80):
            with live.call() as call:
                await live.acall(question="?")
            live.report(float(call.version == 2), call.id)
        live.close()
        published = await optimizer.publish(0)
    assert (published.version, [version.kind for version in await history(ended)][2]) == (4, "promote")


@pytest.mark.parametrize("share", [0, 1, float("nan"), "0.1", True])
async def test_a_share_out_of_range_is_refused_and_nothing_is_published(share: Any, ended: Path) -> None:
    async with await Optimizer.start(config(ended)) as optimizer:
        await optimizer.result(PATIENCE)
        with pytest.raises(ConfigError, match="must be a number above 0 and below 1"):
            await optimizer.publish(share=share)
        assert (await optimizer._publisher.look()).version == 0


async def test_a_canary_of_a_program_that_there_is_not_publishes_nothing(ended: Path) -> None:
    async with await Optimizer.start(config(ended)) as optimizer:
        await optimizer.result(PATIENCE)
        with pytest.raises(UnknownProgramError, match="has no program 99"):
            await optimizer.publish(99, share=0.1)
        assert (await optimizer._publisher.look()).version == 0


@pytest.mark.parametrize("program", ["1", True, 1.0])
async def test_what_is_no_program_is_refused(program: Any, tmp_path: Path) -> None:
    async with await Optimizer.start(config(tmp_path)) as optimizer:
        with pytest.raises(ConfigError, match=r"program=.*: must be its number in the pool, or a copy of the student"):
            await optimizer.publish(program)


async def test_a_program_with_other_fields_than_the_students_is_refused(tmp_path: Path) -> None:
    async with await Optimizer.start(config(tmp_path)) as optimizer:
        with pytest.raises(
            MisfitError, match=r"'self' has the fields \['a', 'b'\], but the space is for \['answer', 'que"
        ):
            await optimizer.publish(dspy.Predict("a -> b"))


async def test_a_copy_of_the_student_is_published_too(ended: Path) -> None:
    async with await Optimizer.start(config(ended)) as optimizer:
        result = await optimizer.result(PATIENCE)
        edited: Any = result.program.deepcopy()
        edited.signature = edited.signature.with_instructions("By hand.")
        known = await optimizer.publish(result.program)
        by_hand = await optimizer.publish(edited, expected=1)
        with pytest.raises(MisfitError, match="has no predictor 'self'"):
            await optimizer.publish(dspy.ChainOfThought("question -> answer"))
    assert (known.run_id, by_hand.run_id) == (optimizer.run_id, None)


async def test_there_must_be_something_to_publish(tmp_path: Path) -> None:
    async with await Optimizer.start(config(tmp_path)) as optimizer:
        await optimizer.pause()
        with pytest.raises(RunError, match="has no result yet"):
            await optimizer.publish()
        with pytest.raises(UnknownProgramError, match="has no program 99"):
            await optimizer.publish(99)


async def test_what_is_better_beyond_doubt_is_published_before_the_result_is_there(tmp_path: Path) -> None:
    async with await Optimizer.start(clear_config(tmp_path, publish="best")) as optimizer:
        await optimizer.result(PATIENCE)
        versions = await history(tmp_path)
    assert versions
    assert versions[0].publisher == "simba_actors"
    assert versions[0].reason.startswith("better than the student itself on ")


async def test_the_adaptive_policy_publishes_what_is_better_beyond_doubt_while_it_goes_on(tmp_path: Path) -> None:
    async with await Optimizer.start(adaptive_config(tmp_path, knows_with_demos)) as optimizer:
        await reach(optimizer, StepClosed, lambda event: event.step == 3)
        await optimizer.pause()
        async with (
            asyncio.timeout(PATIENCE),
            aclosing(follow_events(tmp_path / "simba.db", optimizer.run_id)) as events,
        ):
            published = await anext(event async for event in events if isinstance(event, ProgramPublished))
        assert (await optimizer.status()).status == "paused"
    assert published.program not in (None, STUDENT)
    assert published.reason.startswith("better than the student itself on ")


async def test_the_adaptive_policy_publishes_nothing_where_no_prompt_is_better(tmp_path: Path) -> None:
    async with await Optimizer.start(adaptive_config(tmp_path, knows_by_chance)) as optimizer:
        await optimizer.result(PATIENCE)
        assert (await optimizer._publisher.look()).version == 0


async def test_what_is_published_once_is_not_published_again_by_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        async with await Optimizer.start(clear_config(tmp_path, publish="best")) as optimizer:
            await optimizer.result(PATIENCE)
    digests = [version.digest for version in await history(tmp_path)]
    assert len(digests) == len(set(digests))


async def test_without_clear_evidence_nothing_is_published(tmp_path: Path) -> None:
    async with await Optimizer.start(config(tmp_path, publish="best")) as optimizer:
        await optimizer.result(PATIENCE)
        assert (await optimizer._publisher.look()).version == 0


async def test_what_the_run_does_not_know_is_not_replaced_on_its_own(tmp_path: Path) -> None:
    async with await Channel.open(tmp_path / "simba.db", "bot") as channel:
        await channel.publish(Configuration.of({"self": ("Guess.", [])}), expected=0, reason="by hand")
    async with await Optimizer.start(clear_config(tmp_path, publish="best")) as optimizer:
        await optimizer.result(PATIENCE)
    assert len(await history(tmp_path)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"publish": "always"}, "must be 'manual' or 'best'"), ({"channel": ""}, "must be a string of 1 to 100")],
)
def test_settings_of_publishing_are_checked(changes: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        small_config(tmp_path / "simba.db", **changes)
