"""A store that can't be written for a while only pauses a run; a damaged one is refused."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from simba_actors import Optimizer, Status
from simba_actors.errors import StoreDamagedError
from simba_actors.events import TrajectorySampled
from simba_actors.store.connection import FileGuard
from simba_actors.store.store import Store
from simba_actors.team import pool_keeper
from simba_actors.team.messages import POOL_KEEPER
from tests.support.runs import findings, finish, reach, small_config
from tests.support.waiting import PATIENCE


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the PoolKeeper retry soon."""
    monkeypatch.setattr(pool_keeper, "RETRY_SECONDS", 0.05)


def store_of(optimizer: Optimizer) -> Store:
    ref = optimizer._run.teammates.registry.whereis(POOL_KEEPER)
    assert ref is not None
    return ref.target.server.state.store  # pyright: ignore[reportAttributeAccessIssue]


async def paused(optimizer: Optimizer) -> Status:
    async with asyncio.timeout(PATIENCE):
        while (status := await optimizer.status()).status != "paused":  # noqa: ASYNC110 - no event can be stored
            await asyncio.sleep(0)
    return status


async def trouble(optimizer: Optimizer, words: str = "") -> str:
    """Wait for trouble with the store, and return its description. The store may be gone, so that isn't stored."""
    store = optimizer._run.gate.store_trouble
    async with asyncio.timeout(PATIENCE):
        while store.reason is None or words not in store.reason:  # noqa: ASYNC110 - no event can be stored
            await asyncio.sleep(0)
    return store.reason


@asynccontextmanager
async def disturbed_run(tmp_path: Path, *, may_crash: bool = False) -> AsyncGenerator[Optimizer]:
    """Yield a run to disturb. It must find what an undisturbed one finds, without a restart unless it `may_crash`."""
    whole, config = (small_config(tmp_path / name, run_id="run") for name in ("whole.db", "simba.db"))
    await finish(whole)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        yield optimizer
        await optimizer.result(PATIENCE)
        assert may_crash or (await optimizer.status()).restarts == {}
    assert await findings(config, "run") == await findings(whole, "run")


def has_store(optimizer: Optimizer) -> bool:
    return optimizer.store.exists()


def moved_away(optimizer: Optimizer) -> Path:
    """Move the store's file, and return its new path."""
    return optimizer.store.rename(optimizer.store.with_name("away.db"))


async def test_a_full_disk_pauses_the_run_until_there_is_room(tmp_path: Path) -> None:
    async with disturbed_run(tmp_path) as optimizer:
        db = store_of(optimizer)._db
        await db.execute("PRAGMA max_page_count = 1")  # SQLite raises it to the file's present size.
        status = await paused(optimizer)
        assert "make room on its disk, then resume the run" in (status.reason or "")
        await db.execute("PRAGMA max_page_count = 1000000")


class FaultyConnection:
    """A connection of SQLite's on a file system that fails."""

    def __init__(self, db: Any, error_name: str, failing: str) -> None:
        self._db, self._error_name, self._failing = db, error_name, failing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == self._failing:
            error: Any = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = self._error_name
            raise error
        return self._db.execute(sql, *values)


@contextmanager
def failing_disk(store: Store, error_name: str, failing: str = "COMMIT") -> Generator[None]:
    db: Any = store._db
    sound = db._connection
    db._connection = FaultyConnection(sound, error_name, failing)
    yield
    db._connection = sound


@contextmanager
def stale_handle(_: Store) -> Generator[None]:
    """The error that a network file system reports after its host was restarted."""

    def check(guard: FileGuard, db: sqlite3.Connection) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with patch.object(FileGuard, "check", check):
        yield


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda store: failing_disk(store, "SQLITE_IOERR_WRITE"), "can't be read or written (disk I/O error): check"),
        (lambda store: failing_disk(store, "SQLITE_IOERR_FSYNC"), "can't be read or written (disk I/O error): check"),
        (
            lambda store: failing_disk(store, "SQLITE_IOERR_READ", "BEGIN DEFERRED"),
            "can't be read or written (disk I/O error): check",
        ),
        (stale_handle, "can't be reached (Stale file handle): check its directory and its disk"),
    ],
    ids=["EIO at a write", "EIO at a flush", "EIO at a read", "ESTALE"],
)
async def test_a_file_system_that_fails_pauses_the_run_until_it_works_again(
    fault: Callable[[Store], AbstractContextManager[None]], message: str, tmp_path: Path
) -> None:
    async with disturbed_run(tmp_path) as optimizer:
        with fault(store_of(optimizer)):
            status = await paused(optimizer)
            assert message in (status.reason or "")


async def test_another_writer_pauses_the_run_until_it_is_done(tmp_path: Path) -> None:
    async with disturbed_run(tmp_path) as optimizer:
        await store_of(optimizer)._db.execute("PRAGMA busy_timeout = 10")
        with closing(sqlite3.connect(optimizer.store, isolation_level=None, check_same_thread=False)) as other:
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            status = await paused(optimizer)
            assert "locked by another writer" in (status.reason or "")
            other.execute("ROLLBACK")


async def test_a_file_that_may_not_be_written_any_more_pauses_the_run_until_it_may(tmp_path: Path) -> None:
    async with disturbed_run(tmp_path) as optimizer:
        db = store_of(optimizer)._db
        await db.execute("PRAGMA query_only = ON")  # For SQLite this is like a file system that was mounted read-only.
        status = await paused(optimizer)
        assert "check its permissions" in (status.reason or "")
        await db.execute("PRAGMA query_only = OFF")


async def test_a_keeper_that_crashes_beside_another_writer_waits_until_that_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with disturbed_run(tmp_path, may_crash=True) as optimizer:
        await store_of(optimizer)._db.execute("PRAGMA busy_timeout = 10")
        with closing(sqlite3.connect(optimizer.store, isolation_level=None, check_same_thread=False)) as other:
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            await paused(optimizer)
            keeper = optimizer._run.teammates.registry.whereis(POOL_KEEPER)
            assert keeper is not None
            keeper.kill()
            async with asyncio.timeout(PATIENCE):
                while "waits for its store" not in caplog.text:  # noqa: ASYNC110 - no event can be stored
                    await asyncio.sleep(0)
            other.execute("ROLLBACK")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_a_run_in_a_truncated_file_is_reported_as_damaged(share: float, tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="run")
    await finish(config)
    os.truncate(config.store, int(share * (tmp_path / "simba.db").stat().st_size))
    with pytest.raises(StoreDamagedError, match="restore it from a copy, or start with another path"):
        await finish(config)


async def test_a_file_that_was_moved_away_pauses_the_run_until_it_is_back(tmp_path: Path) -> None:
    async with disturbed_run(tmp_path, may_crash=True) as optimizer:
        away = moved_away(optimizer)
        assert "put it back, and the run continues" in await trouble(optimizer)
        shutil.move(away, optimizer.store)


async def test_a_keeper_that_crashes_beside_a_file_that_is_gone_makes_no_new_one(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="run")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        away = moved_away(optimizer)
        await trouble(optimizer)
        keeper = optimizer._run.teammates.registry.whereis(POOL_KEEPER)
        assert keeper is not None
        keeper.kill()
        await trouble(optimizer, "does not exist")
        assert not has_store(optimizer)
        shutil.move(away, optimizer.store)
        await optimizer.result(PATIENCE)


async def test_a_run_whose_write_ahead_log_was_deleted_opens_its_store_again_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with disturbed_run(tmp_path):
        (tmp_path / "simba.db-wal").unlink()
    assert "simba.db-wal was deleted while a run writes it; nothing is lost" in caplog.text


def replace_with_a_copy(store: Path) -> None:
    copy = store.with_name("copy.db")
    shutil.copyfile(store, copy)
    copy.replace(store)


async def test_a_file_that_was_replaced_pauses_the_run(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="run")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        replace_with_a_copy(Path(config.store))
        assert "was replaced by another file" in await trouble(optimizer)


async def test_a_file_that_was_cut_short_pauses_the_run(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="run")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        await optimizer.pause()
        await store_of(optimizer)._db.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        await optimizer._run.teammates.commit([])
        os.truncate(config.store, 3 * 4096)
        resumed = asyncio.ensure_future(optimizer.resume())
        assert "was cut short" in await trouble(optimizer)
        resumed.cancel()


async def test_a_run_stopped_beside_another_writer_continues_when_that_is_done(tmp_path: Path) -> None:
    whole = small_config(tmp_path / "whole.db", run_id="run")
    await finish(whole)
    config = small_config(tmp_path / "locked.db", run_id="run")
    with closing(sqlite3.connect(config.store, isolation_level=None, check_same_thread=False)) as other:
        async with await Optimizer.start(config) as optimizer:
            await reach(optimizer, TrajectorySampled)
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            await paused(optimizer)
        other.execute("ROLLBACK")
    await finish(config)
    assert await findings(config, "run") == await findings(whole, "run")
