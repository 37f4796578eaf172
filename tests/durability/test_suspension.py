"""A process that is suspended during a run, as by Ctrl-Z, a debugger, or closing a laptop."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from simba_actors import Budget, Optimizer, OptimizerConfig
from simba_actors.errors import LeaseLostError, RunOwnedError
from simba_actors.hosting import assembly
from simba_actors.store import ownership
from simba_actors.store.store import Store
from tests.support.children import start_child
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import legible_script
from tests.support.runs import findings, finish, small_config
from tests.support.waiting import block_until, ended, kill

LEASE = 0.5
"""Seconds that a lease lasts in a child."""
MAX_CALLS = 40
LOST = 3
"""Exit status of a child that lost its run."""


def config_for(address: str, store: Path, max_calls: int | None) -> OptimizerConfig:
    lm = lm_at(address)
    return small_config(store, run_id="run", lm=lm, prompt_model=lm, budget=Budget(max_calls=max_calls))


async def work(address: str, store: Path, max_calls: int | None, pid_namespace: str | None) -> None:
    """Own a run with a short lease. A process in another pid namespace can't be seen by those of this one."""
    Store.open = partial(Store.open, lease_seconds=LEASE)
    assembly.LEASE_SECONDS = LEASE
    if pid_namespace is not None:
        ownership._namespace = lambda: pid_namespace  # pyright: ignore[reportPrivateUsage]
    try:
        await finish(config_for(address, store, max_calls))
    except LeaseLostError:
        os._exit(LOST)


def suspended_without_a_lock(process: int, store: Path) -> bool:
    """Suspend a process between two transactions, and return whether it was. Others wait for one that is open."""
    os.kill(process, signal.SIGSTOP)
    block_until(lambda: Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    with closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            os.kill(process, signal.SIGCONT)
            return False
    return True


@contextmanager
def suspended_owner(
    server: OpenAIServer, store: Path, max_calls: int | None = None, pid_namespace: str | None = None
) -> Generator[BaseProcess]:
    """Yield a child that has made a few calls of its run, suspended for the block."""
    child = start_child(work, server.address, store, max_calls, pid_namespace)
    assert child.pid is not None
    try:
        block_until(lambda: server.calls >= 5)
        server.held = True  # Its run would end if this process were not soon enough.
        block_until(partial(suspended_without_a_lock, child.pid, store))
        server.held = False
        yield child
        os.kill(child.pid, signal.SIGCONT)
        ended(child)
    finally:
        kill(child)


async def test_a_process_that_can_be_seen_keeps_its_run_however_long_it_is_suspended(tmp_path: Path) -> None:
    with OpenAIServer(legible_script, latency=0.02) as server:
        whole = config_for(server.address, tmp_path / "whole.db", None)
        await finish(whole)
        expected = server.calls
    with OpenAIServer(legible_script, latency=0.02) as server:
        config = config_for(server.address, tmp_path / "simba.db", None)
        with suspended_owner(server, tmp_path / "simba.db") as owner:
            await asyncio.sleep(2 * LEASE)
            with pytest.raises(RunOwnedError):
                await Optimizer.start(config)
        assert owner.exitcode == 0
        assert server.calls == expected
    assert await findings(config, "run") == await findings(whole, "run")


async def test_a_run_that_was_taken_over_meanwhile_is_left_alone_by_a_process_that_wakes_up(tmp_path: Path) -> None:
    with OpenAIServer(legible_script, latency=0.02) as server:
        config = config_for(server.address, tmp_path / "simba.db", MAX_CALLS)
        with suspended_owner(server, tmp_path / "simba.db", MAX_CALLS, "elsewhere") as owner:
            await asyncio.sleep(2 * LEASE)
            result = await finish(config)
        assert owner.exitcode == LOST
        # A call that was counted before the suspension may be sent after it. The new owner has left room for it.
        assert server.calls <= MAX_CALLS
    assert result.budget_reached == "max_calls"
    assert result.usage.calls <= MAX_CALLS
