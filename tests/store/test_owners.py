"""A run has one owner at a time. An owner that lost it can't write it any more."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from simba_actors.errors import ConfigError, LeaseLostError, RunError, RunOwnedError, StoreError
from simba_actors.events import RunPaused
from simba_actors.store import Owner, Reader, leases
from simba_actors.store.leases import wait_until_free
from simba_actors.store.ownership import HolderWatch, Holding
from simba_actors.store.requests import send_request
from simba_actors.store.store import Store
from tests.store.ledgers import RUN, claimed
from tests.support.children import start_child
from tests.support.hosts import run_script_in_fork
from tests.support.waiting import PATIENCE, block_until, ended, kill, until

LEASE = 0.3


def elsewhere(owner: Owner) -> Owner:
    """Return an owner in a process that can't be seen from this one."""
    return replace(owner, host="another-host", token=f"token of {os.urandom(4).hex()}", generation=None)


async def leased(path: Path, owner: Owner, seconds: float = LEASE) -> Store:
    store = await Store.open(path, lease_seconds=seconds)
    await store.claim(RUN, owner)
    return store


async def taken_over(path: Path) -> tuple[Store, Owner, Store, Owner]:
    """Return two stores with the owners that claimed the run one after the other, though the first still lives."""
    first, second = Owner.this_process(), Owner.this_process()
    loser = await leased(path, first)
    with closing(sqlite3.connect(path)) as db, db:  # As if its process had been suspended until the lease was over.
        db.execute("UPDATE runs SET owner = NULL, owner_token = NULL")
    return loser, first, await leased(path, second), second


async def test_an_owner_that_lost_the_run_stores_nothing(tmp_path: Path) -> None:
    loser, first, winner, _ = await taken_over(tmp_path / "simba.db")
    with pytest.raises(LeaseLostError, match="was taken over by another process"):
        await loser.commit("run", first, [], [RunPaused(reason="late")])
    assert await winner.read.events("run") == []
    await loser.close()
    await winner.close()


async def test_an_owner_that_lost_the_run_does_not_get_it_back(tmp_path: Path) -> None:
    loser, first, winner, second = await taken_over(tmp_path / "simba.db")
    await winner.release("run", second)
    await winner.close()
    with pytest.raises(LeaseLostError, match="was taken over by another process"):
        await loser.claim(RUN, first)
    await loser.close()


async def test_an_owner_gets_back_a_run_that_had_no_other_owner_since(tmp_path: Path) -> None:
    owner = Owner.this_process()
    store = await leased(tmp_path / "simba.db", owner)
    await store.release("run", owner)
    await store.claim(RUN, owner)
    await store.commit("run", owner, [], [RunPaused(reason="again")])
    await store.close()


async def test_a_blocked_event_loop_keeps_its_lease(tmp_path: Path) -> None:
    path, owner = tmp_path / "simba.db", Owner.this_process()
    store = await leased(path, owner)
    ends = set[float]()

    def renewed_twice() -> bool:
        ends.update(db.execute("SELECT lease_until FROM runs").fetchone())
        return len(ends) == 3

    with closing(sqlite3.connect(path)) as db:
        block_until(renewed_twice)  # As a student that blocks does.
    await store.close()


def close_a_loop_without_releasing(path: Path) -> Owner:
    owner = Owner.this_process()
    asyncio.run(_claim_and_leave(path, owner))
    return owner


async def _claim_and_leave(path: Path, owner: Owner) -> None:
    store = await leased(path, owner)
    await store._db.close()


async def test_a_run_is_free_when_the_loop_of_its_owner_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "simba.db"
    await asyncio.to_thread(close_a_loop_without_releasing, path)
    async with await Reader.open(path) as reader, asyncio.timeout(PATIENCE):
        await wait_until_free(reader, "run")


async def test_a_process_with_the_same_pid_in_another_namespace_has_the_run_as_long_as_its_lease(
    tmp_path: Path,
) -> None:
    path, mine = tmp_path / "simba.db", Owner.this_process()
    other = replace(mine, namespace="pid:[1]", started="1", token="other")  # noqa: S106
    store = await Store.open(path, lease_seconds=3600.0)
    await store.claim(RUN, other)
    with pytest.raises(RunOwnedError, match=r"end that process, or wait 3\d\d\d s if it is gone"):
        await store.claim(RUN, mine)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE runs SET lease_until = 0")
    await store.claim(RUN, mine)
    await store.close()


async def hold(path: Path) -> None:
    await leased(path, Owner.this_process(), seconds=3600.0)
    await asyncio.Event().wait()


def is_held(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as db:
        has_runs = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'runs'").fetchone()
        return bool(has_runs and db.execute("SELECT 1 FROM runs WHERE owner IS NOT NULL").fetchone())


async def test_the_death_of_a_process_on_this_host_is_noticed_long_before_its_lease_is_over(tmp_path: Path) -> None:
    path = tmp_path / "simba.db"
    child = start_child(hold, path)
    await until(lambda: is_held(path))
    async with await Reader.open(path) as reader:
        waiting = asyncio.ensure_future(wait_until_free(reader, "run"))
        await asyncio.sleep(0)
        child.kill()
        async with asyncio.timeout(PATIENCE):
            await waiting
    ended(child)


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="needs /proc")
async def test_a_living_process_is_not_taken_for_dead_where_no_more_files_can_be_opened(tmp_path: Path) -> None:
    path, mine = tmp_path / "simba.db", Owner.this_process()
    child = start_child(hold, path)
    await until(lambda: is_held(path))
    store = await Store.open(path)
    with no_more_files(), pytest.raises(RunOwnedError):
        await store.claim(RUN, mine)
    await store.close()
    kill(child)


@contextmanager
def no_more_files() -> Generator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_store_that_cannot_be_opened_for_too_many_open_files_names_the_limit(tmp_path: Path) -> None:
    await (await Store.open(tmp_path / "simba.db")).close()
    with no_more_files(), pytest.raises(StoreError, match=r"ulimit -n"):
        await Store.open(tmp_path / "simba.db")


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="needs /proc")
def test_the_name_of_a_process_may_be_any_bytes() -> None:
    name, here = Path("/proc/self/comm"), Owner.this_process()
    before = name.read_bytes()
    name.write_bytes(b") optimizaci\xc3")  # As of a longer name, cut within a character.
    try:
        assert Owner.this_process().started == here.started
    finally:
        name.write_bytes(before.strip())


async def test_a_run_is_free_when_a_process_that_cannot_be_seen_did_not_renew_its_lease(tmp_path: Path) -> None:
    path, here = tmp_path / "simba.db", Owner.this_process()
    store = await leased(path, elsewhere(here), seconds=3600.0)
    await store.close()
    times = iter([0.0, 0.0, 29.0, 31.0])
    async with await Reader.open(path) as reader:
        _, expired = await wait_until_free(reader, "run", lease_seconds=30.0, clock=lambda: next(times))
    store = await Store.open(path)
    with pytest.raises(RunOwnedError):  # By the clock of the owner's host.
        await store.claim(RUN, here)
    await store.claim(RUN, here, expired=expired)
    await store.close()


def test_a_lease_that_is_renewed_is_not_over_however_wrong_the_owners_clock_is() -> None:
    now, there = 0.0, elsewhere(Owner.this_process())
    watch = HolderWatch(30.0, clock=lambda: now)
    for lease_until in (1e9, 1e9 + 86_400, 1e9 - 86_400, 10.0, 20.0):
        assert not watch.is_free(Holding(there.to_json(), there.token, lease_until, 1))
        now += 29.0
        assert not watch.is_free(Holding(there.to_json(), there.token, lease_until, 1))


async def test_a_renewal_that_fails_is_made_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, renewed, loop = 0.0, asyncio.Event(), asyncio.get_running_loop()
    failures = iter([sqlite3.OperationalError("database is locked")] * 2)

    def renew(*_: object) -> bool:
        for failure in failures:
            raise failure
        loop.call_soon_threadsafe(renewed.set)
        return True

    monkeypatch.setattr(leases, "renew", renew)
    monkeypatch.setattr(leases, "steady_clock", lambda: now)
    store = await leased(tmp_path / "simba.db", Owner.this_process(), seconds=30.0)
    now = 11.0  # The time of the first renewal, and never that of another one.
    async with asyncio.timeout(PATIENCE):
        await renewed.wait()
    await store.close()


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_owner_is_woken_by_a_request_and_takes_it_once(tmp_path: Path) -> None:
    path, owner, woken = tmp_path / "simba.db", Owner.this_process(), asyncio.Event()
    store = await Store.open(path)
    await store.claim(RUN, owner, woken.set)
    sent = await send_request(path, "run", "pause", reason="needed elsewhere", by="ada")
    async with asyncio.timeout(PATIENCE):
        await woken.wait()
    assert await store.take_requests("run", owner) == [sent]
    assert await store.take_requests("run", owner) == []
    assert (sent.kind, sent.reason, sent.requester) == ("pause", "needed elsewhere", "ada")
    await store.close()


async def test_a_request_to_a_run_without_an_owner_is_refused(tmp_path: Path) -> None:
    path, owner = tmp_path / "simba.db", Owner.this_process()
    store = await claimed(path, owner)
    await store.release("run", owner)
    with pytest.raises(RunError, match="open in no process, so there is nothing to stop: start it with the same conf"):
        await send_request(path, "run", "stop", reason="enough")
    await store.close()


async def test_a_request_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be one of pause, resume, stop"):
        await send_request(tmp_path / "simba.db", "run", "sleep", reason="?")  # pyright: ignore[reportArgumentType]


FORK = """
import asyncio, os, sys
from simba_actors.errors import StoreError
from simba_actors.store.store import Store

async def opened():
    try:
        await (await Store.open(sys.argv[1])).close()
    except StoreError as error:
        print(error, flush=True)
    else:
        print("opened", flush=True)

def in_child():
    child = os.fork()
    if child == 0:
        asyncio.run(opened())
        os._exit(0)
    os.waitpid(child, 0)

async def main():
    store = await Store.open(sys.argv[1])
    await asyncio.to_thread(in_child)
    await store.close()
    await asyncio.to_thread(in_child)

asyncio.run(main())
"""


def test_a_forked_child_may_not_use_a_store_that_its_parent_has_open(tmp_path: Path) -> None:
    beside, afterwards = run_script_in_fork(FORK, tmp_path / "simba.db").splitlines()
    assert "this process was forked from one that had a run open in it: make processes with" in beside
    assert afterwards == "opened"
