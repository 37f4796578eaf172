"""Exits of processes, and how links, monitors and logs report them."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from simba_actors.actors import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Exit,
    ExitReason,
    Ref,
    demonitor,
    link,
    monitor,
    spawn,
    spawn_link,
    unlink,
)
from simba_actors.actors.errors import CallExitError, NoProcessError, NotInAProcessError, StrayCancellationError
from tests.actors.conftest import Keep, Reports
from tests.actors.servers import Add, Crash, Leave, Log, Run, TrappingWorker, Worker


class Careless(Worker):
    """Raises when it cleans up."""

    async def terminate(self, reason: ExitReason) -> None:
        raise OSError("disk full")


class Discreet(Worker):
    """Keeps a secret."""

    def format_state(self) -> str:
        return f"count={self.state}, token=***"

    def format_message(self, message: Any) -> str:
        return type(message).__name__


async def tie(server: Ref, other: Ref) -> None:
    async def run(_: Worker) -> None:
        link(other)

    await server.call(Run(run))


async def test_what_terminate_raises_is_the_exit_reason_and_is_reported(reports: Reports) -> None:
    server = await Careless.start(name="careless")
    reason = await server.stop()
    assert isinstance(reason, OSError)
    assert server.exit_reason is reason
    assert reports()[0].startswith("Careless 'careless' crashed: OSError: disk full\n")


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Exit("shutdown", "upgrade")], ids=str)
async def test_an_exit_normal_or_shutdown_makes_no_crash_report(reason: Exit, reports: Reports) -> None:
    server = await Worker.start()
    await server.call(Leave(reason))
    assert await server.wait() == reason
    assert reports() == []


async def test_any_other_exit_makes_one_readable_crash_report(caplog: pytest.LogCaptureFixture) -> None:
    server = await Discreet.start(name="bank")
    await server.call(Add(3))
    await server.cast(Crash(RuntimeError("crash")))
    await server.wait()
    [record] = [record for record in caplog.records if record.name == "simba_actors.actors"]
    assert record.levelname == "ERROR"
    assert record.getMessage() == (
        "Discreet 'bank' crashed: RuntimeError: crash\n"
        "  last message: Crash\n"
        "  state: count=3, token=***\n"
        "  restarts so far: 0"
    )
    assert record.exc_info is not None
    assert record.exc_info[1] is server.exit_reason


@pytest.mark.parametrize("reason", [Exit("out of paper"), Exit("normal", "but odd")], ids=str)
async def test_a_named_abnormal_exit_is_reported_too(reason: Exit, reports: Reports) -> None:
    server = await Worker.start()
    await server.call(Leave(reason))
    await server.wait()
    assert reports()[0].startswith(f"Worker crashed: {reason}\n")


async def test_a_state_that_cant_be_formatted_does_not_spoil_the_crash_report(reports: Reports) -> None:
    class Unshowable(Worker):
        def format_state(self) -> str:
            raise ValueError("no words")

    server = await Unshowable.start()
    await server.cast(Crash(RuntimeError("crash")))
    assert isinstance(await server.wait(), RuntimeError)
    assert "state: (can't be formatted: ValueError: no words)" in reports()[0]


async def test_a_linked_process_that_exits_normal_is_ignored(keep: Keep) -> None:
    server, other = keep(await Worker.start()), await Worker.start()
    await tie(server, other)
    await other.stop()
    assert await server.call(Add()) == 1


async def test_killed_exits_at_once_without_terminate(log: Log) -> None:
    server = await Worker.start(log)
    call = asyncio.create_task(server.call(Run(lambda _: asyncio.sleep(100))))
    await asyncio.sleep(1)
    server.kill()
    assert server.exit_reason == KILLED
    with pytest.raises(CallExitError, match="killed"):
        await call
    assert log == ["start worker"]


async def test_replies_and_messages_of_a_killed_server_have_no_effect(keep: Keep) -> None:
    listener, said = keep(await Worker.start()), asyncio.Event()

    async def hold_on_and_speak(_: Worker) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await listener.cast(Add(10))
            listener.cast_nowait(Add(10))
            listener.kill()
            with pytest.raises(NoProcessError, match="Worker was killed"):
                await listener.call(Add(10))
            said.set()

    stubborn = await Worker.start()
    call = asyncio.create_task(stubborn.call(Run(hold_on_and_speak)))
    await asyncio.sleep(1)
    stubborn.kill()
    await asyncio.gather(call, return_exceptions=True)
    await said.wait()
    assert await listener.call(Add()) == 1


@pytest.mark.parametrize("reason", [Exit("out of paper"), SHUTDOWN, Exit("normal", "but odd")], ids=str)
async def test_an_abnormal_exit_ends_a_linked_process(reason: Exit) -> None:
    server, other = await Worker.start(), await Worker.start()
    await tie(server, other)
    await other.call(Leave(reason))
    assert await server.wait() == reason


async def test_an_exit_reason_travels_from_link_to_link() -> None:
    chain = [await Worker.start() for _ in range(10)]
    for server, other in itertools.pairwise(chain):
        await tie(server, other)
    error = RuntimeError("crash")
    await chain[-1].cast(Crash(error))
    assert await chain[0].wait() is error


async def test_a_kill_travels_through_any_number_of_links() -> None:
    chain = [await Worker.start() for _ in range(1000)]
    for server, other in itertools.pairwise(chain):
        await tie(server, other)
    chain[-1].kill()
    assert await chain[0].wait() == KILLED


async def test_a_process_that_traps_exits_gets_a_message_instead(keep: Keep, log: Log) -> None:
    server, other = keep(await TrappingWorker.start(log)), await Worker.start(name="other")
    await tie(server, other)
    await other.call(Leave(Exit("out of paper")))
    await other.wait()
    assert await server.call(Add()) == 1
    assert log == ["start worker", "ExitSignal(Worker 'other', out of paper)"]


async def test_a_link_to_the_dead_has_its_effect_at_once() -> None:
    server, other = await Worker.start(), await Worker.start()
    await other.call(Leave(Exit("out of paper")))
    await other.wait()

    async def run(_: Worker) -> None:
        link(other)
        await asyncio.sleep(100)

    with pytest.raises(CallExitError):
        await server.call(Run(run))
    assert server.exit_reason == Exit("out of paper")


async def test_unlinked_processes_get_no_signal_of_each_other(keep: Keep) -> None:
    server, other = keep(await Worker.start()), await Worker.start()

    async def run(_: Worker) -> None:
        link(other)
        unlink(other)

    await server.call(Run(run))
    other.kill()
    assert await server.call(Add()) == 1


async def test_a_monitor_reports_the_end_and_links_nothing(keep: Keep, log: Log) -> None:
    server, other = keep(await TrappingWorker.start(log)), await Worker.start(name="other")
    quiet = await Worker.start(name="quiet")

    async def run(_: Worker) -> None:
        monitor(other)
        monitor(quiet)
        demonitor(quiet)

    await server.call(Run(run))
    await quiet.stop()
    await other.stop()
    await server.call(Run(run))
    await server.call(Add())
    assert log == ["start worker"] + ["Down(Worker 'other', normal)"] * 2 + ["Down(Worker 'quiet', normal)"]


async def test_links_and_monitors_are_for_processes(keep: Keep) -> None:
    server = keep(await Worker.start())
    for tied in (link, unlink, monitor, demonitor):
        with pytest.raises(NotInAProcessError, match=tied.__name__):
            tied(server)


async def test_an_on_exit_callback_that_raises_does_not_stop_the_others(reports: Reports) -> None:
    def listen() -> None:
        raise ValueError("deaf")

    server = await Worker.start()
    server.target.on_exit.append(listen)
    with pytest.raises(CallExitError):
        await server.call(Crash(RuntimeError("crash")))
    assert reports()[1] == "an on_exit callback of Worker raised"


async def test_a_process_asked_to_exit_cleans_up_first(log: Log) -> None:
    server = await Worker.start(log)
    server.exit(Exit("out of paper"))
    assert await server.wait() == Exit("out of paper")
    assert log == ["start worker", "stop worker"]


async def test_an_exit_reaches_a_server_that_swallows_its_cancellation() -> None:
    async def swallow(_: Worker) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return

    server = await Worker.start()
    call = asyncio.create_task(server.call(Run(swallow)))
    await asyncio.sleep(1)
    server.exit(SHUTDOWN)
    await call
    assert await server.wait() == SHUTDOWN


async def test_a_process_asked_to_exit_before_its_first_step_never_starts() -> None:
    steps = 0

    async def work() -> None:
        nonlocal steps
        steps += 1

    process = spawn(work)
    process.exit(SHUTDOWN)
    assert await process.wait() == SHUTDOWN
    assert steps == 0


async def test_a_cancellation_that_nobody_asked_for_is_a_crash(reports: Reports) -> None:
    async def wait_for_the_cancelled(_: Worker) -> None:
        task = asyncio.create_task(asyncio.sleep(100))
        task.cancel()
        await task

    server = await Worker.start()
    with pytest.raises(CallExitError):
        await server.call(Run(wait_for_the_cancelled))
    assert isinstance(server.exit_reason, StrayCancellationError)
    assert "Worker awaited something that was cancelled" in reports()[0]


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN], ids=str)
async def test_a_spawned_function_ends_with_the_process_that_spawned_it(reason: Exit) -> None:
    spawned: list[Ref] = []

    async def run(_: Worker) -> None:
        spawned.append(spawn_link(asyncio.sleep, 100))

    server = await Worker.start()
    await server.call(Run(run))
    await server.stop(reason)
    assert await spawned[0].wait() == SHUTDOWN


async def test_a_spawned_function_that_raises_is_reported(reports: Reports) -> None:
    async def fail() -> None:
        raise RuntimeError("crash")

    process = spawn(fail, name="failing")
    assert isinstance(await process.wait(), RuntimeError)
    assert reports() == ["failing crashed: RuntimeError: crash"]
