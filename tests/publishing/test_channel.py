"""Publishing: an append-only history that concurrent publishers can't corrupt."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors.errors import (
    ConfigError,
    NotJSONError,
    PrunedVersionError,
    PublicationError,
    UnknownChannelError,
    UnknownProgramError,
    UnknownRunError,
    UnknownVersionError,
    VersionConflictError,
)
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.publishing.channel import Channel, Source
from simba_actors.publishing.publications import history
from simba_actors.store import Reader
from tests.support.runs import finish, small_config


def worded(instructions: str) -> Configuration:
    return Configuration.of({"self": (instructions, [])})


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[Channel]:
    ticks = itertools.count(1000.0)
    async with await Channel.open(tmp_path / "simba.db", "bot", clock=lambda: next(ticks)) as channel:
        yield channel


async def publish(channel: Channel, *wordings: str) -> None:
    for wording in wordings:
        version = (await channel.served()).version
        await channel.publish(worded(wording), expected=version, reason=f"try {wording}", by="ann")


async def current(channel: Channel) -> str:
    served = (await channel.served()).current
    assert served is not None
    return (await channel.configuration(served.version)).instructions("self")


async def test_half_of_a_surrogate_pair_in_a_reason_is_escaped(channel: Channel) -> None:
    await channel.publish(worded("one"), expected=0, reason="smile \ud83d", by="ann \ud83d")
    (version,) = await channel.history()
    assert (version.reason, version.publisher) == ("smile \\ud83d", "ann \\ud83d")


async def test_a_version_says_what_was_published_by_whom_when_and_why(channel: Channel) -> None:
    await channel.publish(worded("one"), expected=0, reason="the first", by="ann")
    (version,) = await channel.history()
    assert (version.version, version.kind, version.publisher, version.time, version.reason) == (
        1,
        "publish",
        "ann",
        1000.0,
        "the first",
    )
    assert await channel.configuration(1) == worded("one")


async def test_publications_are_plain_json(channel: Channel) -> None:
    await publish(channel, "one")
    await channel.start_canary(worded("two"), share=0.5, expected=1, reason="?")
    served = await channel.served()
    assert json.loads(json.dumps(served.to_json())) == dataclasses.asdict(served)
    assert served.to_json()["current"] == (await channel.history())[0].to_json()


async def test_a_user_without_a_name_publishes_by_number(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    version = await channel.publish(worded("one"), expected=0, reason="?")
    assert version.publisher == f"uid 54321@{socket.gethostname()}"


async def test_of_two_publishers_who_expect_the_same_version_one_learns_of_the_other(channel: Channel) -> None:
    await publish(channel, "one")
    async with await Channel.open(channel._path, "bot") as other:
        await other.publish(worded("theirs"), expected=1, reason="better", by="bob")
    with pytest.raises(VersionConflictError, match=r"at version 2, not 1: bob was first \(publish: better\)") as raised:
        await channel.publish(worded("mine"), expected=1, reason="best")
    assert (raised.value.current, await current(channel)) == (2, "theirs")


async def test_of_many_publishers_at_a_time_one_wins(channel: Channel) -> None:
    others = [await Channel.open(channel._path, "bot") for _ in range(8)]
    attempts = (other.publish(worded(str(n)), expected=0, reason="race") for n, other in enumerate(others))
    ended = await asyncio.gather(*attempts, return_exceptions=True)
    for other in others:
        await other.close()
    assert sum(isinstance(end, VersionConflictError) for end in ended) == 7
    assert len(await channel.history()) == 1


async def test_a_diff_shows_what_changed_between_two_versions(channel: Channel) -> None:
    await publish(channel, "one", "two")
    assert (await channel.diff(1, 2)).splitlines()[-2:] == ["-one", "+two"]


async def test_a_rollback_brings_back_what_was_served_before(channel: Channel) -> None:
    await publish(channel, "one", "two", "three")
    restored = await channel.rollback(reason="worse", by="ann")
    assert (restored.version, restored.kind, restored.origin, await current(channel)) == (4, "rollback", 2, "two")


async def test_rollbacks_go_back_step_by_step(channel: Channel) -> None:
    await publish(channel, "one", "two", "three")
    await channel.rollback(reason="worse")
    await channel.rollback(reason="still worse")
    assert await current(channel) == "one"
    with pytest.raises(UnknownVersionError, match=r"nothing to go back to.* publish program 0"):
        await channel.rollback(reason="hopeless")


async def test_a_rollback_can_name_its_version(channel: Channel) -> None:
    await publish(channel, "one", "two", "three")
    await channel.rollback(1, reason="the good old one")
    assert await current(channel) == "one"


async def test_a_canary_runs_beside_the_current_version_until_it_is_promoted(channel: Channel) -> None:
    await publish(channel, "one")
    await channel.start_canary(worded("two"), share=0.1, expected=1, reason="try it")
    served = await channel.served()
    assert served.current is not None
    assert served.canary is not None
    assert (served.current.version, served.canary.version, served.canary.share) == (1, 2, 0.1)
    promoted = await channel.promote(reason="it is better")
    assert (promoted.version, promoted.origin, await current(channel)) == (3, 2, "two")
    assert (await channel.served()).canary is None


async def test_a_canary_is_rolled_back_to_what_ran_beside_it(channel: Channel) -> None:
    await publish(channel, "one")
    await channel.start_canary(worded("two"), share=0.1, expected=1, reason="try it")
    await channel.rollback(reason="it is worse")
    assert (await current(channel), (await channel.served()).canary) == ("one", None)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 7.0])
async def test_a_canary_gets_a_part_of_all_calls(channel: Channel, share: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        await channel.start_canary(worded("two"), share=share, expected=0, reason="try it")


async def test_a_canary_needs_something_to_be_compared_with(channel: Channel) -> None:
    with pytest.raises(PublicationError, match="publish what runs today first"):
        await channel.start_canary(worded("two"), share=0.5, expected=0, reason="try it")


async def test_there_must_be_a_canary_to_promote(channel: Channel) -> None:
    await publish(channel, "one")
    with pytest.raises(PublicationError, match="no canary to promote"):
        await channel.promote(reason="why not")


async def test_a_pruned_version_stays_in_the_history_and_can_not_be_brought_back(channel: Channel) -> None:
    await publish(channel, "one", "two", "three")
    assert await channel.prune(keep=2) == 1
    assert [version.pruned for version in await channel.history()] == [True, False, False]
    with pytest.raises(PrunedVersionError, match="version 1 of channel 'bot' was pruned"):
        await channel.rollback(1, reason="nostalgia")
    assert await current(channel) == "three"


@pytest.mark.parametrize("keep", [0, True, "20", 1.5])
async def test_what_is_no_number_of_versions_to_keep_is_refused(keep: Any, channel: Channel) -> None:
    with pytest.raises(ConfigError, match=r"keep=.*must be a whole number of at least 1"):
        await channel.prune(keep)


async def test_what_is_served_is_never_pruned(channel: Channel) -> None:
    await publish(channel, "one")
    for expected in range(1, 5):
        await channel.start_canary(worded(f"canary {expected}"), share=0.5, expected=expected, reason="try it")
    await channel.prune(keep=1)
    assert await channel.configuration(1) == worded("one")


async def test_a_configuration_that_a_later_version_brought_back_is_not_pruned(channel: Channel) -> None:
    await publish(channel, "one", "two", "one")
    assert await channel.prune(keep=1) == 1
    assert [version.pruned for version in await channel.history()] == [False, True, False]


async def test_a_program_of_a_run_is_published_by_its_number(tmp_path: Path) -> None:
    run_id = (await finish(small_config(tmp_path / "simba.db"))).run_id
    async with await Channel.open(tmp_path / "simba.db", "bot") as channel:
        version = await channel.publish(Source(run_id, 1), expected=0, reason="looks good")
        assert (version.run_id, version.program) == (run_id, 1)
        with pytest.raises(UnknownProgramError, match="has no program 99; its newest is"):
            await channel.publish(Source(run_id, 99), expected=1, reason="?")
        with pytest.raises(UnknownRunError, match=f"has no run 'nope'; it has {run_id}"):
            await channel.publish(Source("nope", 0), expected=1, reason="?")


async def test_an_unknown_channel_and_an_unknown_version_name_what_there_is(channel: Channel) -> None:
    with pytest.raises(UnknownChannelError, match=r"no channel 'bot' \(its channels: none\)"):
        await channel.history()
    await publish(channel, "one")
    with pytest.raises(UnknownVersionError, match="no version 7; its newest is 1"):
        await channel.configuration(7)
    async with await Reader.open(channel._path) as channels:
        with pytest.raises(UnknownChannelError, match=r"no channel 'cat' \(its channels: bot\)"):
            await channels.ask(history, "cat")


async def test_a_module_is_not_published_but_its_configuration_is(channel: Channel) -> None:
    module: Any = dspy.Predict("question -> answer")
    with pytest.raises(ConfigError, match=r"Predict can't be published: pass .*extract\(program\)"):
        await channel.publish(module, reason="better")
    published = await channel.publish(ConfigurationSpace.from_module(module).extract(module), reason="better")
    assert published.program is None


async def test_what_is_no_json_is_not_published(channel: Channel) -> None:
    with pytest.raises(NotJSONError, match=r"self\.instructions is a set"):
        await channel.publish(Configuration({"self.instructions": {1}, "self.demos": []}), expected=0, reason="?")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, 7])
async def test_a_channel_needs_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a string of 1 to 100"):
        await Channel.open(tmp_path / "simba.db", name)


async def test_without_an_expected_version_a_publication_follows_the_newest(tmp_path: Path) -> None:
    async with await Channel.open(tmp_path / "simba.db", "default") as channel:
        for version in (1, 2):
            published = await channel.publish(Configuration.of({"self": ("Say it.", [])}), reason="a try")
            assert published.version == version
