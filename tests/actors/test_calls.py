"""Calls and casts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, assert_type

import pytest

from simba_actors.actors import (
    NORMAL,
    Call,
    CallReturn,
    CastReturn,
    Exit,
    From,
    GenServer,
    InitReturn,
    NoReply,
    Ref,
    Registry,
    Reply,
    Stop,
    reply,
)
from simba_actors.actors.errors import (
    BadReasonError,
    BadReturnError,
    BadTimeoutError,
    CallExitError,
    CallingSelfError,
    CallTimeoutError,
    MailboxFullError,
    NoProcessError,
    UnhandledMessageError,
    WrongLoopError,
)
from tests.actors.conftest import Keep, Reports
from tests.actors.servers import Add, Crash, Leave, Run, Worker


@dataclass(frozen=True, slots=True)
class Ask(Call[str]):
    """A call that is answered when an `Answer` arrives."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str


class Oracle(GenServer[list[From[str]]]):
    """Keeps callers waiting until it gets an `Answer`."""

    mailbox_size = 0

    async def init(self) -> InitReturn:
        self.state = []
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        self.state.append(sender)
        return NoReply()

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case Answer(text=text):
                for sender in self.state:
                    reply(sender, text)
                self.state.clear()
                return None
            case _:
                return await super().handle_cast(message)


@dataclass(frozen=True, slots=True)
class Hold(Call[None]):
    """A call that is handled until `let_go` is set."""

    let_go: asyncio.Event = field(default_factory=asyncio.Event)


class Gate(Worker):
    """Has a mailbox for two messages, and takes as long for each as the message says."""

    mailbox_size = 2

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        if isinstance(message, Hold):
            await message.let_go.wait()
            return Reply(None)
        return await super().handle_call(message, sender)


async def turns(number: int = 5) -> None:
    """Let all tasks run that can."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_call_without_a_reply_is_answered_later(keep: Keep) -> None:
    oracle = keep(await Oracle.start())
    asked = asyncio.create_task(oracle.call(Ask()))
    await turns()
    assert not asked.done()
    await oracle.cast(Answer("42"))
    assert await asked == "42"


async def test_a_call_has_the_type_of_its_messages_reply(keep: Keep) -> None:
    assert_type(await keep(await Worker.start()).call(Add()), int)
    assert_type(await keep(await Worker.start()).call(Leave(NORMAL)), str)


async def test_a_call_that_times_out_names_server_and_message_and_its_late_reply_is_dropped(keep: Keep) -> None:
    oracle = keep(await Oracle.start(name="delphi"))
    with pytest.raises(CallTimeoutError, match=r"Oracle 'delphi' to Ask\(\) within 2.0 s"):
        await oracle.call(Ask(), timeout=2.0)
    assert asyncio.get_running_loop().time() == 2.0
    await oracle.cast(Answer("late"))
    asked = asyncio.create_task(oracle.call(Ask()))
    await turns()
    await oracle.cast(Answer("in time"))
    assert await asked == "in time"


async def test_a_call_waits_five_seconds_by_default(keep: Keep) -> None:
    oracle = keep(await Oracle.start())
    with pytest.raises(CallTimeoutError):
        await oracle.call(Ask())
    assert asyncio.get_running_loop().time() == 5.0


async def test_each_caller_times_out_at_its_own_time(keep: Keep) -> None:
    oracle, loop = keep(await Oracle.start()), asyncio.get_running_loop()

    async def ask(timeout: float) -> float:
        with pytest.raises(CallTimeoutError):
            await oracle.call(Ask(), timeout)
        return loop.time()

    timeouts = [4.0, 1.0, 3.0, 2.0, 1.0]
    assert await asyncio.gather(*map(ask, timeouts)) == timeouts


async def test_a_call_to_the_dead_or_unknown_fails_at_once() -> None:
    server = await Worker.start()
    await server.stop()
    for address in (server, Registry().via("nobody")):
        with pytest.raises(NoProcessError, match=r"Worker is dead \(normal\)|no process is registered as 'nobody'"):
            await address.call(Add())
    assert asyncio.get_running_loop().time() == 0


@pytest.mark.parametrize(
    "attempt",
    [
        lambda server: server.ref.call(Add()),
        lambda server: server.ref.stop(),
        lambda server: server.ref.wait(),
    ],
    ids=["call", "stop", "wait"],
)
async def test_a_server_that_calls_or_stops_itself_fails_at_once(attempt: Any, keep: Keep) -> None:
    server = keep(await Worker.start(name="me"))

    async def try_it(worker: Worker) -> str:
        with pytest.raises(CallingSelfError, match="Worker 'me'") as error:
            await attempt(worker)
        return str(error.value)

    assert await server.call(Run(try_it))
    assert asyncio.get_running_loop().time() == 0


async def test_a_crash_gives_its_reason_to_every_waiting_caller_at_once() -> None:
    server, error = await Gate.start(), RuntimeError("crash")
    crash = Crash(error)
    results = await asyncio.gather(*(server.call(crash) for _ in range(10)), return_exceptions=True)
    assert [type(result) for result in results] == [CallExitError] * 10
    assert all(isinstance(result, CallExitError) and result.reason is error for result in results)
    assert all(isinstance(result, CallExitError) and result.__cause__ is error for result in results)
    assert asyncio.get_running_loop().time() == 0


async def test_an_invalid_return_ends_the_server_and_the_caller_sees_it() -> None:
    class Wrong(Worker):
        async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
            return 3  # pyright: ignore[reportReturnType] - as untyped code might

    server = await Wrong.start(name="wrong")
    with pytest.raises(CallExitError) as error:
        await server.call(Add())
    assert isinstance(error.value.reason, BadReturnError)
    assert str(error.value.reason) == "handle_call of Wrong 'wrong' returned 3"
    assert server.exit_reason is error.value.reason


async def test_an_invalid_return_to_a_cast_ends_the_server() -> None:
    class Wrong(Worker):
        async def handle_cast(self, message: Any) -> CastReturn:
            return Reply(3)  # pyright: ignore[reportReturnType] - as untyped code might

    server = await Wrong.start()
    await server.cast(Add())
    assert isinstance(await server.wait(), BadReturnError)


async def test_an_unhandled_call_ends_the_server() -> None:
    server = await Worker.start()
    with pytest.raises(CallExitError, match=r"Worker does not handle the call Ask\(\)"):
        await server.call(Ask())
    assert isinstance(server.exit_reason, UnhandledMessageError)


async def test_an_unhandled_cast_ends_the_server() -> None:
    server = await Worker.start()
    await server.cast(Ask())
    assert isinstance(await server.wait(), UnhandledMessageError)


async def test_an_unhandled_info_is_a_warning_and_the_server_lives(keep: Keep, reports: Reports) -> None:
    server = keep(await Worker.start())
    server.send("hello")
    assert await server.call(Add()) == 1
    assert reports() == ["Worker ignored an unknown message: 'hello'"]


async def test_a_cast_to_the_dead_or_unknown_returns() -> None:
    server = await Worker.start()
    await server.stop()
    for address in (server, Registry().via("nobody")):
        await address.cast(Add())
        address.cast_nowait(Add())
        address.send("hello")


async def test_stop_with_a_reply_delivers_it_and_then_exits_with_the_reason() -> None:
    server = await Worker.start()
    reason = Exit("shutdown", "upgrade")
    assert await server.call(Leave(reason)) == "bye"
    assert await server.wait() == reason


async def test_stop_without_a_reply_gives_the_caller_the_reason() -> None:
    class Leaving(Worker):
        async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
            return Stop(NORMAL)

    with pytest.raises(CallExitError) as error:
        await (await Leaving.start()).call(Add())
    assert error.value.reason == NORMAL


async def test_the_second_stop_is_a_no_process_error() -> None:
    server = await Worker.start()
    assert await server.stop() == NORMAL
    with pytest.raises(NoProcessError):
        await server.stop()


async def test_a_full_mailbox_of_the_caller_does_not_slow_its_calls(keep: Keep) -> None:
    callee = keep(await Worker.start(name="callee"))
    empty, full = keep(await Worker.start(name="empty")), keep(await Worker.start(name="full"))

    async def cpu_seconds(_worker: Worker) -> float:
        """Return the CPU seconds of 100 calls, the best of five measurements: other processes disturb the rest."""
        times: list[float] = []
        for _ in range(5):
            start = time.thread_time()
            for _ in range(100):
                await callee.call(Add())
            times.append(time.thread_time() - start)
        return min(times)

    async def cpu_seconds_behind_100_000_messages(worker: Worker) -> float:
        for _ in range(100_000):
            worker.ref.cast_nowait(Add())
        return await cpu_seconds(worker)

    with_none = await empty.call(Run(cpu_seconds))
    assert await full.call(Run(cpu_seconds_behind_100_000_messages), timeout=None) < 10 * with_none


async def test_casts_to_a_full_mailbox_wait_and_none_is_dropped(keep: Keep) -> None:
    gate, hold = keep(await Gate.start()), Hold()
    held = asyncio.create_task(gate.call(hold))
    await turns()
    casts = [asyncio.create_task(gate.cast(Add())) for _ in range(10)]
    await turns()
    assert sum(cast.done() for cast in casts) == Gate.mailbox_size
    hold.let_go.set()
    await asyncio.gather(held, *casts)
    assert await gate.call(Add(0)) == 10


async def held_and_full(gate: Ref) -> tuple[Hold, asyncio.Task[None]]:
    hold = Hold()
    held = asyncio.create_task(gate.call(hold, timeout=None))
    await turns()
    for _ in range(Gate.mailbox_size):
        gate.cast_nowait(Add())
    return hold, held


async def test_a_full_mailbox_refuses_messages_that_do_not_wait(keep: Keep) -> None:
    gate = keep(await Gate.start(name="full"))
    hold, held = await held_and_full(gate)
    for attempt in (gate.cast_nowait, gate.send):
        with pytest.raises(MailboxFullError, match=r"the mailbox of Gate 'full' is full \(2 messages\)"):
            attempt(Add())
    hold.let_go.set()
    await held
    assert await gate.call(Add(0)) == 2


async def test_a_call_that_waits_for_room_times_out(keep: Keep) -> None:
    gate = keep(await Gate.start())
    hold, held = await held_and_full(gate)
    with pytest.raises(CallTimeoutError):
        await gate.call(Add(100), timeout=1.0)
    hold.let_go.set()
    await held
    assert await gate.call(Add(0)) == 2


async def test_a_call_that_waits_for_room_fails_when_the_server_ends() -> None:
    gate = await Gate.start()
    _, held = await held_and_full(gate)
    call = asyncio.create_task(gate.call(Add(), timeout=None))
    await turns()
    gate.kill()
    for waiting in (held, call):
        with pytest.raises(CallExitError, match="killed"):
            await waiting


async def test_a_full_mailbox_can_be_shut_down() -> None:
    gate = await Gate.start()
    hold, held = await held_and_full(gate)
    stopping = asyncio.create_task(gate.stop())
    await turns()
    hold.let_go.set()
    await held
    assert await stopping == NORMAL


async def test_a_server_that_waits_for_room_in_its_own_mailbox_is_refused(keep: Keep) -> None:
    gate = keep(await Gate.start(name="gate"))

    async def fill(worker: Worker) -> str:
        for _ in range(Gate.mailbox_size):
            await worker.ref.cast(Add())
        with pytest.raises(MailboxFullError, match="Gate 'gate' can't wait for room in its own mailbox"):
            await worker.ref.cast(Add())
        return "refused"

    assert await gate.call(Run(fill)) == "refused"


async def test_a_message_need_not_be_pickled(keep: Keep) -> None:
    server = keep(await Worker.start())
    unpicklable = asyncio.Lock()

    async def give_it(_: Worker) -> asyncio.Lock:
        return unpicklable

    assert await server.call(Run(give_it)) is unpicklable


async def test_a_huge_message_makes_no_huge_error(keep: Keep) -> None:
    oracle = keep(await Oracle.start())

    @dataclass(frozen=True, slots=True)
    class Huge(Call[None]):
        text: str = field(default_factory=lambda: "x" * 10_000_000)

    with pytest.raises(CallTimeoutError) as error:
        await oracle.call(Huge())
    assert len(str(error.value)) < 200


async def test_an_exit_reason_is_an_exit_or_an_exception(keep: Keep) -> None:
    server = keep(await Worker.start())
    with pytest.raises(BadReasonError, match=r"pass an Exit, such as Exit\('done'\), or an exception"):
        await server.stop("done")  # pyright: ignore[reportArgumentType] - as untyped code might
    with pytest.raises(BadReasonError, match="'done' is not an exit reason"):
        server.exit("done")  # pyright: ignore[reportArgumentType] - as untyped code might
    assert server.alive


async def test_a_stop_with_nonsense_for_a_reason_is_a_crash() -> None:
    server = await Worker.start()
    await server.cast(Leave("done"))  # pyright: ignore[reportArgumentType] - as untyped code might
    assert isinstance(await server.wait(), BadReasonError)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "soon"])
async def test_a_timeout_that_is_not_a_duration_is_refused(timeout: Any, keep: Keep) -> None:
    server = keep(await Worker.start())
    for attempt in (server.call(Add(), timeout), server.stop(timeout=timeout), server.wait(timeout)):
        with pytest.raises(BadTimeoutError, match="timeout="):
            await attempt
    assert server.alive


async def test_a_process_of_another_loop_is_an_error(keep: Keep) -> None:
    server = keep(await Worker.start(name="here"))

    def elsewhere() -> None:
        for attempt in (lambda: asyncio.run(server.call(Add())), lambda: server.cast_nowait(Add()), server.kill):
            with pytest.raises(WrongLoopError, match="Worker 'here' belongs to another event loop"):
                attempt()

    await asyncio.to_thread(elsewhere)
    assert await server.call(Add()) == 1


async def test_a_busy_server_lets_other_tasks_run(keep: Keep) -> None:
    server = keep(await Worker.start())
    for _ in range(10_000):
        server.cast_nowait(Add())
    while_busy = 0
    while server.target.mailbox.qsize() > 0:
        await asyncio.sleep(0)
        while_busy += 1
    assert while_busy >= 50
