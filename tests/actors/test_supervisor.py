"""Restarts by supervisors: which children are restarted, together with which others, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simba_actors.actors import (
    NORMAL,
    SHUTDOWN,
    ChildSpec,
    Exit,
    ExitReason,
    Ref,
    Supervisor,
    SupervisorEvent,
    TooManyRestartsError,
    sys,
    terminate_child,
    which_children,
)
from simba_actors.actors.supervisor import RestartIntensity
from tests.actors.conftest import Keep, Reports
from tests.actors.servers import Add, Leave, Log, child, crash, ref_of, refs

ABNORMAL = Exit("out of paper")


async def leave(ref: Ref, reason: ExitReason) -> None:
    await ref.call(Leave(reason))
    await ref.wait()


async def ids(supervisor: Ref) -> list[Any]:
    return [info.id for info in await which_children(supervisor)]


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, ABNORMAL], ids=str)
async def test_a_permanent_child_is_restarted_whatever_the_reason(reason: Exit, log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    first = await ref_of(supervisor, "a")
    await leave(first, reason)
    assert await ref_of(supervisor, "a") != first


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Exit("shutdown", "upgrade")], ids=str)
async def test_a_transient_child_that_exits_normally_is_not_restarted_but_kept(
    reason: Exit, log: Log, keep: Keep
) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a", restart="transient")]))
    await leave(await ref_of(supervisor, "a"), reason)
    assert await refs(supervisor) == {"a": None}


async def test_a_transient_child_that_exits_abnormally_is_restarted(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a", restart="transient")]))
    first = await ref_of(supervisor, "a")
    await leave(first, ABNORMAL)
    assert await ref_of(supervisor, "a") != first


@pytest.mark.parametrize("reason", [NORMAL, ABNORMAL], ids=str)
async def test_a_temporary_child_is_never_restarted_and_dropped(reason: Exit, log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a", restart="temporary")]))
    await leave(await ref_of(supervisor, "a"), reason)
    assert await ids(supervisor) == []


async def renewed_by_a_crash_of_b(strategy: Any, log: Log, keep: Keep) -> list[Any]:
    """Return which of the children a, b and c have new refs after b has crashed."""
    supervisor = keep(await Supervisor.start([child(log, label) for label in "abc"], strategy=strategy))
    before = await refs(supervisor)
    await crash(await ref_of(supervisor, "b"))
    after = await refs(supervisor)
    assert list(after) == ["a", "b", "c"]
    return [child_id for child_id, ref in after.items() if ref is not None and ref != before[child_id]]


async def test_one_for_one_leaves_siblings_untouched(log: Log, keep: Keep) -> None:
    assert await renewed_by_a_crash_of_b("one_for_one", log, keep) == ["b"]


async def test_one_for_all_restarts_every_child(log: Log, keep: Keep) -> None:
    assert await renewed_by_a_crash_of_b("one_for_all", log, keep) == ["a", "b", "c"]


async def test_rest_for_one_keeps_the_earlier_siblings_and_restarts_the_later(log: Log, keep: Keep) -> None:
    assert await renewed_by_a_crash_of_b("rest_for_one", log, keep) == ["b", "c"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_a_temporary_bystander_of_a_group_restart_is_gone(strategy: Any, log: Log, keep: Keep) -> None:
    children = [child(log, "a"), child(log, "b", restart="temporary"), child(log, "c")]
    supervisor = keep(await Supervisor.start(children, strategy=strategy))
    await crash(await ref_of(supervisor, "a"))
    assert await ids(supervisor) == ["a", "c"]
    assert "stop b" in log


async def test_a_group_is_stopped_in_reverse_and_started_in_order(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, label) for label in "abc"], strategy="one_for_all"))
    log.clear()
    await crash(await ref_of(supervisor, "b"))
    await which_children(supervisor)
    assert log == ["stop b", "stop c", "stop a", "start a", "start b", "start c"]


async def test_a_group_restart_starts_the_terminated_too(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a"), child(log, "b")], strategy="one_for_all"))
    await terminate_child(supervisor, "b")
    await crash(await ref_of(supervisor, "a"))
    assert await ref_of(supervisor, "b")


async def test_one_crash_too_many_stops_the_children_and_the_supervisor(log: Log, reports: Reports) -> None:
    supervisor = await Supervisor.start([child(log, "a"), child(log, "b")], max_restarts=2, max_seconds=5.0)
    error = RuntimeError("crash")
    for _ in range(3):
        await crash(await ref_of(supervisor, "a"), error)
    reason = await supervisor.wait()
    assert isinstance(reason, Exit)
    assert reason.name == "shutdown"
    assert isinstance(reason.detail, TooManyRestartsError)
    assert (reason.detail.child, reason.detail.reason) == ("a", error)
    assert log[-1] == "stop b"
    assert reports()[-1] == "Supervisor gives up: child 'a' failed too often: RuntimeError: crash"


async def test_crashes_below_the_intensity_are_restarted_for_ever(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")], max_restarts=1, max_seconds=5.0))
    for _ in range(100):
        await crash(await ref_of(supervisor, "a"))
        await asyncio.sleep(5.1)
    assert supervisor.alive


def test_exactly_the_intensity_is_allowed() -> None:
    intensity = RestartIntensity(2, 5.0)
    assert [intensity.allows(now) for now in (0.0, 1.0, 5.1, 5.2, 11.0)] == [True, True, True, False, True]


async def test_children_start_in_order_and_stop_in_reverse(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, label) for label in "abc"])
    await supervisor.stop()
    assert log == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]


async def test_the_default_is_three_restarts_in_five_seconds(log: Log) -> None:
    supervisor = await Supervisor.start([child(log, "a")])
    for _ in range(3):
        await crash(await ref_of(supervisor, "a"))
    await asyncio.sleep(5.1)
    for _ in range(3):
        await crash(await ref_of(supervisor, "a"))
    last = await ref_of(supervisor, "a")
    assert supervisor.alive
    await crash(last)
    assert isinstance(await supervisor.wait(), Exit)


async def test_exits_and_restarts_are_events(log: Log, keep: Keep) -> None:
    events: list[SupervisorEvent] = []
    supervisor = keep(await Supervisor.start([child(log, "a")], on_event=events.append))
    error = RuntimeError("crash")
    await crash(await ref_of(supervisor, "a"), error)
    await which_children(supervisor)
    assert events == [SupervisorEvent("exited", "a", error, 0), SupervisorEvent("restarted", "a", error, 1)]


async def test_an_on_event_callback_that_raises_ends_no_process(log: Log, keep: Keep, reports: Reports) -> None:
    def listen(event: SupervisorEvent) -> None:
        raise ValueError("deaf")

    supervisor = keep(await Supervisor.start([child(log, "a")], on_event=listen))
    await crash(await ref_of(supervisor, "a"))
    assert await ref_of(supervisor, "a")
    assert [report.split(" for ")[0] for report in reports()[1:]] == ["on_event of Supervisor raised"] * 2


async def test_crash_reports_count_restarts(log: Log, keep: Keep, reports: Reports) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    for _ in range(2):
        await crash(await ref_of(supervisor, "a"))
    assert [report.splitlines()[-1] for report in reports()] == ["  restarts so far: 0", "  restarts so far: 1"]


async def test_backoff_delays_consecutive_restarts(log: Log, keep: Keep) -> None:
    loop = asyncio.get_running_loop()
    events: list[tuple[str, float]] = []
    spec = child(log, "a", backoff=lambda number: 10.0 * number)
    supervisor = keep(
        await Supervisor.start([spec], max_seconds=1.0, on_event=lambda event: events.append((event.kind, loop.time())))
    )
    await crash(await ref_of(supervisor, "a"))
    await asyncio.sleep(10)
    await crash(await ref_of(supervisor, "a"))
    await asyncio.sleep(30)
    await crash(await ref_of(supervisor, "a"))
    await asyncio.sleep(30)
    assert events == [
        ("exited", 0.0),
        ("restarted", 10.0),
        ("exited", 10.0),
        ("restarted", 30.0),
        ("exited", 40.0),
        ("restarted", 50.0),
    ]


async def test_backoff_delays_restarts_that_failed_too(keep: Keep, log: Log) -> None:
    loop, starts = asyncio.get_running_loop(), list[float]()

    async def start() -> Ref:
        starts.append(loop.time())
        if 1 < len(starts) < 4:
            raise ConnectionError("the database is down")
        return await child(log, "a").start()

    supervisor = keep(await Supervisor.start([ChildSpec("a", start, backoff=lambda number: 2.0**number)]))
    await crash(await ref_of(supervisor, "a"))
    await asyncio.sleep(100)
    assert starts == [0.0, 2.0, 6.0, 14.0]
    assert await (await ref_of(supervisor, "a")).call(Add()) == 1


async def test_a_supervisor_shows_its_children_as_its_state(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    assert [place.spec.id for place in await sys.get_state(supervisor)] == ["a"]
