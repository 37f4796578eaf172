"""Shutdown of children, and of supervisors by significant children."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from simba_actors.actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    ChildSpec,
    Exit,
    ExitReason,
    Ref,
    Supervisor,
    TooManyRestartsError,
    start_child,
    unlink,
)
from tests.actors.conftest import Keep, Reports
from tests.actors.servers import Leave, Log, Run, TrappingWorker, Worker, child, crash, ref_of, refs


class Slow(Worker):
    """Takes ten seconds to clean up."""

    async def terminate(self, reason: ExitReason) -> None:
        await asyncio.sleep(10)
        await super().terminate(reason)


class Stubborn(Worker):
    """Ignores its cancellation for an hour."""

    async def terminate(self, reason: ExitReason) -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(1800)
            except asyncio.CancelledError:
                self.log.append(f"{self.label} holds on")


def sub_supervisor(children: list[ChildSpec], **spec: Any) -> ChildSpec:
    async def start() -> Ref:
        return await Supervisor.start_link(children, max_restarts=1)

    return ChildSpec("sub", start, type="supervisor", **spec)


async def test_a_replaced_sub_supervisor_has_its_static_children_but_not_its_dynamic_ones(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([sub_supervisor([child(log, "static")])]))
    sub = await ref_of(supervisor, "sub")
    await start_child(sub, child(log, "dynamic"))
    sub.kill()
    sub = await ref_of(supervisor, "sub")
    assert list(await refs(sub)) == ["static"]


async def test_a_transient_sub_supervisor_that_gives_up_is_not_restarted(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([sub_supervisor([child(log, "a")], restart="transient")]))
    sub = await ref_of(supervisor, "sub")
    for _ in range(2):
        await crash(await ref_of(sub, "a"))
    reason = await sub.wait()
    assert isinstance(reason, Exit)
    assert isinstance(reason.detail, TooManyRestartsError)
    assert await refs(supervisor) == {"sub": None}


async def test_only_a_child_that_outlives_its_shutdown_timeout_is_killed(log: Log, reports: Reports) -> None:
    children = [child(log, "a"), child(log, "slow", Slow, shutdown=3.0), child(log, "c")]
    supervisor = await Supervisor.start(children)
    a, slow, c = [await ref_of(supervisor, name) for name in ("a", "slow", "c")]
    await supervisor.stop()
    assert [ref.exit_reason for ref in (a, slow, c)] == [SHUTDOWN, KILLED, SHUTDOWN]
    assert asyncio.get_running_loop().time() == 3.0
    assert reports() == ["Slow 'slow' did not shut down within 3 s: killing it"]


async def test_a_worker_has_five_seconds_by_default(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, "slow", Slow)])
    await supervisor.stop()
    assert asyncio.get_running_loop().time() == 5.0


async def test_a_brutal_kill_is_at_once_and_without_terminate(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, "slow", Slow, shutdown="brutal_kill")])
    slow = await ref_of(supervisor, "slow")
    await supervisor.stop()
    assert slow.exit_reason == KILLED
    assert asyncio.get_running_loop().time() == 0
    assert log == ["start slow"]


async def test_infinity_waits(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, "slow", Slow, shutdown=math.inf)])
    slow = await ref_of(supervisor, "slow")
    await supervisor.stop()
    assert slow.exit_reason == SHUTDOWN
    assert asyncio.get_running_loop().time() == 10.0
    assert log == ["start slow", "stop slow"]


async def test_a_sub_supervisor_is_waited_for(log: Log) -> None:
    supervisor = await Supervisor.start([sub_supervisor([child(log, "slow", Slow, shutdown=math.inf)])])
    await supervisor.stop()
    assert log == ["start slow", "stop slow"]


async def test_a_child_that_unlinked_itself_is_shut_down_without_a_hang(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, "a")])
    a = await ref_of(supervisor, "a")

    async def run(_: Worker) -> None:
        unlink(supervisor)

    await a.call(Run(run))
    await supervisor.stop()
    assert a.exit_reason == SHUTDOWN
    assert asyncio.get_running_loop().time() == 0


async def test_a_killed_child_that_ignores_its_cancellation_is_left_behind(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, "stubborn", Stubborn)])
    stubborn = await ref_of(supervisor, "stubborn")
    await supervisor.stop()
    assert stubborn.exit_reason == KILLED
    assert asyncio.get_running_loop().time() == pytest.approx(5.1)
    task = stubborn.target.task
    assert task is not None
    await task
    assert log == ["start stubborn", "stubborn holds on"]


async def test_a_child_that_traps_exits_finishes_its_callback(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, "trapping", TrappingWorker)])
    trapping = await ref_of(supervisor, "trapping")

    async def work(worker: Worker) -> str:
        await asyncio.sleep(3)
        worker.log.append("work done")
        return "done"

    call = asyncio.create_task(trapping.call(Run(work)))
    await asyncio.sleep(1)
    await supervisor.stop()
    assert await call == "done"
    assert log == ["start trapping", "work done", "stop trapping"]


async def test_the_children_of_a_killed_supervisor_end_with_it(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, "a"), child(log, "trapping", TrappingWorker)])
    children = [ref for ref in (await refs(supervisor)).values() if ref is not None]
    supervisor.kill()
    assert [await ref.wait() for ref in children] == [KILLED, KILLED]
    assert log[2:] == ["stop trapping"]


def significant(log: Log, label: str) -> ChildSpec:
    return child(log, label, restart="transient", significant=True)


async def leave(supervisor: Ref, label: str) -> None:
    await (await ref_of(supervisor, label)).call(Leave(NORMAL))


async def test_any_significant_child_that_ends_shuts_the_supervisor_down(log: Log) -> None:
    children = [significant(log, "a"), significant(log, "b"), child(log, "c")]
    supervisor = await Supervisor.start(children, auto_shutdown="any_significant")
    await leave(supervisor, "a")
    assert await supervisor.wait() == Exit("shutdown", "significant child 'a' exited")
    assert log[-2:] == ["stop c", "stop b"]


async def test_all_significant_children_have_to_end(log: Log) -> None:
    children = [significant(log, "a"), significant(log, "b"), child(log, "c")]
    supervisor = await Supervisor.start(children, auto_shutdown="all_significant")
    await leave(supervisor, "a")
    assert list((await refs(supervisor)).values()).count(None) == 1
    await leave(supervisor, "b")
    assert await supervisor.wait() == Exit("shutdown", "significant child 'b' exited")


async def test_a_significant_child_that_is_restarted_has_not_ended(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([significant(log, "a")], auto_shutdown="any_significant"))
    await crash(await ref_of(supervisor, "a"))
    assert await ref_of(supervisor, "a")
