"""A file that can't be used as a store is refused, with its name and a remedy, and left unchanged."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
from collections.abc import Generator
from contextlib import closing, contextmanager
from itertools import takewhile
from pathlib import Path
from tempfile import gettempdir

import pytest

from simba_actors.errors import (
    NotAStoreError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreVersionError,
)
from simba_actors.store import Owner, Reader
from simba_actors.store.doctor import check
from simba_actors.store.migrations import APPLICATION_ID, VERSION
from simba_actors.store.queries.run_queries import summaries
from simba_actors.store.records import NewRun
from simba_actors.store.store import Store
from tests.store.ledgers import claimed, results, step
from tests.support.connections import left_open, open_connections
from tests.support.waiting import PATIENCE

OWNER = Owner.this_process()
NOBODY = 65534
DATA = Path(__file__).parent.parent / "data"


@contextmanager
def without_privileges() -> Generator[None]:
    """Give up root's privileges for the block, since permissions don't apply to root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def open_to_others(directory: Path) -> None:
    """Let every user read a temporary directory."""
    for parent in takewhile(lambda parent: parent != Path(gettempdir()), (directory, *directory.parents)):
        parent.chmod(0o755)


@pytest.mark.parametrize("turns", range(4))
async def test_an_opening_that_is_cancelled_leaves_no_connection_open(turns: int, tmp_path: Path) -> None:
    before = open_connections()
    opening = asyncio.ensure_future(Store.open(tmp_path / "simba.db"))
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening], timeout=PATIENCE)
    assert left_open(before) == set()


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no directory .*/missing; create it first"):
        await Store.open(tmp_path / "missing" / "simba.db")


async def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="File name too long"):
        await Store.open(tmp_path / f"{'x' * 300}.db")


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a directory: give the path of a file in it"):
        await Store.open(tmp_path)


async def test_a_pipe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "simba.db"
    os.mkfifo(path)
    for opened in (Store.open(path), Reader.open(path)):
        with pytest.raises(StoreError, match="is a pipe, a socket or a device: give the path of a file"):
            await asyncio.wait_for(opened, PATIENCE)


async def test_a_file_with_two_names_is_refused_until_one_is_removed(tmp_path: Path) -> None:
    path, other = tmp_path / "simba.db", tmp_path / "other.db"
    await (await Store.open(path)).close()
    other.hardlink_to(path)
    for name in (path, other):
        with pytest.raises(StoreError, match=r"has 2 names \(hard links\).*remove the other names"):
            await Store.open(name)
    other.unlink()
    await (await Store.open(path)).close()


async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but notes that somebody needs" * 100)
    before = path.read_bytes()
    with pytest.raises(NotAStoreError, match=r"notes\.txt is not an SQLite database"):
        await Store.open(path)
    assert path.read_bytes() == before


async def test_another_programs_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE things (name TEXT)")
    before = path.read_bytes()
    for opening in (Store.open, Reader.open):
        with pytest.raises(NotAStoreError, match=r"other\.db is another program's database"):
            await opening(path)
    assert path.read_bytes() == before


async def test_a_newer_schema_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    for opening in (Store.open, Reader.open):
        with pytest.raises(StoreVersionError, match=rf"schema {VERSION + 1}, this one knows {VERSION}\): upgrade"):
            await opening(path)


async def test_a_truncated_file_is_reported_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "simba.db"
    store = await claimed(path, OWNER)
    await store.commit("run", OWNER, [step(0, 200), *results(step(0, 200).rollouts)])
    await store.close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreDamagedError, match="restore it from a copy"):
        await _read_rollouts(path)


async def _read_rollouts(path: Path) -> None:
    async with await Reader.open(path) as reader:
        await reader.rollouts("run", 0, "sample")


async def test_a_read_only_file_is_reported_as_such(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    path = shared / "simba.db"
    shared.mkdir()
    await (await claimed(path, OWNER)).close()
    path.chmod(0o444)
    shared.chmod(0o555)
    open_to_others(tmp_path)
    with without_privileges(), pytest.raises(StoreReadOnlyError, match="check its permissions"):
        await claimed(path, OWNER)
    shared.chmod(0o755)


async def test_a_file_without_room_takes_the_same_commit_when_there_is_room(tmp_path: Path) -> None:
    store = await claimed(tmp_path / "simba.db", OWNER)
    await store._db.execute("PRAGMA max_page_count = 40")
    with pytest.raises(StoreFullError, match="make room on its disk, then resume the run"):
        await store.commit("run", OWNER, [step(0, 2000)])
    assert await store.read.steps("run") == []
    await store._db.execute("PRAGMA max_page_count = 100000")
    await store.commit("run", OWNER, [step(0, 2000)])
    assert len(await store.read.rollouts("run", 0, "sample")) == 2000
    await store.close()


async def test_a_locked_file_takes_the_same_commit_when_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "simba.db"
    store = await claimed(path, OWNER)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLockedError, match="locked by another writer"):
            await store.commit("run", OWNER, [step(0)])
        other.execute("ROLLBACK")
    await store.commit("run", OWNER, [step(0)])
    assert len(await store.read.steps("run")) == 1
    await store.close()


async def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    store = await claimed(tmp_path / "simba.db", OWNER)
    await store.commit("run", OWNER, [step(0)])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in _files(tmp_path)}
    await store.close()
    assert modes == {"simba.db": 0o600, "simba.db-wal": 0o600, "simba.db-shm": 0o600}


async def test_only_the_owner_may_read_a_store_that_is_made_where_a_link_leads(tmp_path: Path) -> None:
    link, real = tmp_path / "link.db", tmp_path / "real.db"
    link.symlink_to(real)
    await (await Store.open(link)).close()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


async def test_a_new_store_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.db" for number in range(5)]
    for path in paths:
        opened = await asyncio.gather(*(Store.open(path) for _ in range(4)), return_exceptions=True)
        stores = [store for store in opened if isinstance(store, Store)]
        for store in stores:
            await store.close()
        assert len(stores) == 4, opened


def _files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


@pytest.mark.parametrize("file", sorted(DATA.glob("schema_v*.db")), ids=lambda file: file.stem)
async def test_a_run_of_an_older_version_continues(file: Path, tmp_path: Path) -> None:
    path = tmp_path / file.name
    shutil.copyfile(file, path)
    store, owner = await Store.open(path), Owner.this_process()
    (run,) = await store.read.runs()
    await store.claim(NewRun(run.run_id, run.fingerprint, run.settings), owner)
    (last,) = (step for step in await store.read.steps(run.run_id) if step.result is None)
    open_rollouts = [
        record.rollout
        for record in await store.read.rollouts(run.run_id, last.step, "sample")
        if record.trajectory is None
    ]
    calls = (await store.read.usage(run.run_id)).calls
    await store.commit(run.run_id, owner, results(open_rollouts))
    usage = await store.read.usage(run.run_id)
    await store.close()
    assert open_rollouts
    assert usage.calls == calls + len(open_rollouts)
    failed = {finding.what for finding in await check(path) if not finding.ok}
    assert failed <= {"every rollout's program is in the pool"}  # Two of the files hold no pool.


@pytest.mark.parametrize("file", sorted(DATA.glob("schema_v*.db")), ids=lambda file: file.stem)
async def test_reading_a_file_of_an_older_version_does_not_change_it(file: Path, tmp_path: Path) -> None:
    path = tmp_path / file.name
    shutil.copyfile(file, path)
    async with await Reader.open(path) as reader:
        (summary,) = await reader.ask(summaries)
    assert summary.rollouts_done > 0
    assert have_same_bytes(path, file)


def have_same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()
