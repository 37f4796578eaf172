"""Files that are deleted, replaced, moved, unreachable or full while a store is open."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simba_actors.errors import ConfigError, StoreDamagedError, StoreError, StoreFullError, StoreReadOnlyError
from simba_actors.programs import Configuration
from simba_actors.publishing.channel import Channel
from simba_actors.search.rollout import Outcome, TraceStep, Trajectory
from simba_actors.store import Owner, Reader
from simba_actors.store.connection import LogDeletedError, translated
from simba_actors.store.records import RecordRollout
from simba_actors.store.store import Store
from tests.store.ledgers import RUN, claimed, results, step
from tests.store.test_opening import open_to_others, without_privileges


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "simba.db"


async def test_a_deleted_log_is_noticed_at_the_next_commit_and_nothing_is_lost(path: Path, tmp_path: Path) -> None:
    owner = Owner.this_process()
    store = await claimed(path, owner)
    await store._end_leases()  # Their thread opens the files at a time of its own, and would make a new log.
    await store.commit("run", owner, [step(0)])
    delete(path.with_name("simba.db-wal"))
    with pytest.raises(LogDeletedError, match=r"simba\.db-wal was deleted .*nothing is lost"):
        await store.commit("run", owner, [step(1)])
    copy = tmp_path / "copy.db"
    shutil.copyfile(path, copy)  # Leave the log as a kill would.
    async with await Reader.open(copy) as reader:
        assert [stored.step for stored in await reader.steps("run")] == [0]
    await store.close()


async def test_a_replaced_log_is_noticed_at_the_next_commit(path: Path) -> None:
    owner = Owner.this_process()
    store = await claimed(path, owner)
    await store.commit("run", owner, [step(0)])
    replace_by_a_copy(path.with_name("simba.db-wal"))
    with pytest.raises(StoreDamagedError, match="another one took its place"):
        await store.commit("run", owner, [step(1)])
    await store.close()


def delete(file: Path) -> None:
    file.unlink()


def replace_by_a_copy(file: Path) -> None:
    copy = file.with_name("copy")
    shutil.copyfile(file, copy)
    copy.replace(file)


async def test_a_directory_that_cannot_be_read_for_a_while_refuses_a_commit_and_then_takes_it(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    directory = tmp_path / "shared"
    make_directory(directory, 0o777)
    owner = Owner.this_process()
    with without_privileges():
        store = await claimed(directory / "simba.db", owner)
        set_mode(directory, 0o000)
        with pytest.raises(StoreError, match=r"can't be reached .*check its directory and its disk"):
            await store.commit("run", owner, [step(0)])
        set_mode(directory, 0o777)
        await store.commit("run", owner, [step(0)])
        await store.close()


def make_directory(directory: Path, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)


def set_mode(directory: Path, mode: int) -> None:
    """Change the directory as its owner."""
    user = os.geteuid()
    os.seteuid(directory.stat().st_uid)
    directory.chmod(mode)
    os.seteuid(user)


@pytest.fixture
def read_only(path: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the store's path in a directory that all users may read, and make it writable again afterwards."""
    open_to_others(tmp_path)
    yield path
    tmp_path.chmod(0o755)


async def test_a_store_at_rest_is_read_where_nothing_can_be_written(read_only: Path) -> None:
    owner = Owner.this_process()
    store = await claimed(read_only, owner)
    await store.commit("run", owner, [step(0), *results(step(0).rollouts)])
    await store.close()
    freeze(read_only)
    with without_privileges():
        async with await Reader.open(read_only) as reader:
            assert len(await reader.scores("run")) == 4


async def test_a_log_that_cannot_be_read_there_is_named(read_only: Path) -> None:
    owner = Owner.this_process()
    store = await claimed(read_only, owner)
    await store.commit("run", owner, [step(0)])
    copy = read_only.with_name("frozen")
    make_directory(copy, 0o755)
    for file in ("simba.db", "simba.db-wal"):
        shutil.copyfile(read_only.with_name(file), copy / file)
    await store.close()
    freeze(copy / "simba.db")
    with without_privileges(), pytest.raises(StoreReadOnlyError, match=r"its last commits are still in simba\.db-wal"):
        await Reader.open(copy / "simba.db")


def freeze(store: Path) -> None:
    for file in store.parent.iterdir():
        if file.is_file():
            file.chmod(0o444)
    store.parent.chmod(0o555)


async def test_a_relative_path_keeps_its_meaning_when_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    owner = Owner.this_process()
    store = await Store.open("simba.db")
    monkeypatch.chdir("/")
    await store.claim(RUN, owner)
    await store.commit("run", owner, [step(0)])
    await store.close()
    assert os.listdir(tmp_path) == ["simba.db"]  # noqa: PTH208


async def test_a_link_that_leads_to_another_file_is_noticed_at_the_next_commit(path: Path, tmp_path: Path) -> None:
    owner, link = Owner.this_process(), tmp_path / "link.db"
    await (await Store.open(path)).close()
    other = tmp_path / "other.db"
    shutil.copyfile(path, other)
    link.symlink_to(path)
    store = await Store.open(link)
    await store.claim(RUN, owner)
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(StoreDamagedError, match="was replaced by another file"):
        await store.commit("run", owner, [step(0)])
    await store.close()


@pytest.mark.parametrize("opening", [Store.open, Reader.open])
async def test_a_path_with_nul_is_refused(opening: Any) -> None:
    with pytest.raises(ConfigError, match="can't contain NUL"):
        await opening("simba\0.db")


def test_an_error_of_a_full_disk_is_not_taken_for_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"
    assert not isinstance(translated(error, path), StoreFullError)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    assert isinstance(translated(error, path), StoreFullError)


async def test_a_large_value_is_stored_once_however_many_rows_hold_it(path: Path) -> None:
    image = "data:image/png;base64," + "x" * 90_000
    async with await Channel.open(path, "bot") as channel:
        for version in range(20):
            demos = [{"image": image, "answer": str(version)}] * 3
            configuration = Configuration.of({"self": (f"Say {version}.", demos)})
            await channel.publish(configuration, expected=version, reason="again")
        assert (await channel.configuration(20)).demos("self")[0]["image"] == image
    assert path.stat().st_size < 3 * len(image)  # noqa: ASYNC240


@pytest.mark.parametrize("text", ["\0", "\0" + "0" * 32, "\0" * 200, "x" * 200, "\ud800" * 200, "ä" * 127])
async def test_any_text_comes_back_as_it_was(path: Path, text: str) -> None:
    owner = Owner.this_process()
    store = await claimed(path, owner)
    trajectory = Trajectory(
        Outcome.SCORED, 1.0, {"a": text}, (TraceStep("self", {"q": [text, {"k": text}]}, {"a": text}),), error=text
    )
    opened = step(0, 1)
    await store.commit("run", owner, [opened, RecordRollout(opened.rollouts[0].key, trajectory)])
    (record,) = await store.read.rollouts("run", 0, "sample")
    await store.close()
    stored = text.encode("utf-8", "backslashreplace").decode()
    assert record.trajectory is not None
    assert record.trajectory.trace[0].inputs == {"q": [stored, {"k": stored}]}
    assert (record.trajectory.prediction, record.trajectory.error) == ({"a": stored}, stored)


async def test_an_index_that_another_process_makes_anew_is_noticed_at_the_next_commit(path: Path) -> None:
    owner = Owner.this_process()
    store = await claimed(path, owner)
    index = path.with_name("simba.db-shm")
    delete(index)
    await store.commit("run", owner, [step(0)])
    index.touch()
    with pytest.raises(StoreDamagedError, match=r"simba\.db-shm was deleted .* another process has made a new one"):
        await store.commit("run", owner, [step(1)])
    await store.close()
