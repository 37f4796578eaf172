"""The cost of a call compared to a bare `asyncio.Queue` with a reply future, pykka and xoscar; the cost of a server.

    python -m tests.benchmarks.kernel

Bar: at least 0.5 of the bare loop's calls a second. Each figure is the best of several rounds, which take turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, cast

from simba_actors.actors import Call, CallReturn, ChildSpec, From, GenServer, InitReturn, Ref, Reply, Supervisor

CALLS = 5_000
ROUNDS = 20
SERVERS = 1_000
BAR = 0.5


@dataclass(frozen=True, slots=True)
class Add(Call[int]):
    by: int


class Counter(GenServer[int]):
    async def init(self) -> InitReturn:
        self.state = 0
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case Add(by=by):
                self.state += by
                return Reply(self.state)
            case _:
                return await super().handle_call(message, sender)


async def seconds_a_call(call: Callable[[], Awaitable[Any]]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - started) / CALLS


async def bare() -> float:
    queue: asyncio.Queue[tuple[Add, asyncio.Future[int]]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def serve() -> None:
        count = 0
        while True:
            message, future = await queue.get()
            count += message.by
            future.set_result(count)

    async def call() -> int:
        future: asyncio.Future[int] = loop.create_future()
        queue.put_nowait((Add(1), future))
        return await future

    server = asyncio.create_task(serve())
    seconds = await seconds_a_call(call)
    server.cancel()
    return seconds


async def ours() -> float:
    counter = await Counter.start()
    seconds = await seconds_a_call(lambda: counter.call(Add(1)))
    await counter.stop()
    return seconds


async def with_pykka() -> float:
    import pykka

    class PykkaCounter(pykka.ThreadingActor):
        count = 0

        def on_receive(self, message: Any) -> Any:
            self.count += message.by
            return self.count

    counter = PykkaCounter.start()
    started = time.perf_counter()
    for _ in range(CALLS):
        counter.ask(Add(1))
    seconds = (time.perf_counter() - started) / CALLS
    counter.stop()
    return seconds


async def with_xoscar() -> float:
    import xoscar  # pyright: ignore[reportMissingImports] - measured where it is installed

    xo: Any = cast("Any", xoscar)

    class XoscarCounter(xo.Actor):
        def __init__(self) -> None:
            self.count = 0

        def add(self, by: int) -> int:
            self.count += by
            return self.count

    pool = await xo.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        counter = await xo.create_actor(XoscarCounter, address=pool.external_address)
        return await seconds_a_call(lambda: counter.add(1))


async def bare_tasks() -> float:
    """Return the seconds for each of many tasks with a queue, started in order and cancelled in reverse."""
    started = time.perf_counter()
    tasks = [asyncio.create_task(asyncio.Queue[None]().get()) for _ in range(SERVERS) if await asyncio.sleep(0) is None]
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])
    return (time.perf_counter() - started) / SERVERS


async def supervised_servers() -> float:
    """Return the seconds for each of many servers, started in order under one supervisor and stopped in reverse."""
    order: list[int] = []

    class Server(Counter):
        def __init__(self, number: int) -> None:
            self.number = number

        async def terminate(self, reason: Any) -> None:
            order.append(self.number)

    async def start(number: int) -> Ref:
        return await Server.start_link(number)

    children = [ChildSpec(number, partial(start, number)) for number in range(SERVERS)]
    started = time.perf_counter()
    supervisor = await Supervisor.start(children)
    await supervisor.stop()
    seconds = (time.perf_counter() - started) / SERVERS
    if order != list(reversed(range(SERVERS))):
        raise AssertionError("the servers were not stopped in reverse order")
    return seconds


def best(rivals: dict[str, Callable[[], Awaitable[float]]], rounds: int) -> dict[str, float]:
    figures = [{name: asyncio.run(_awaited(measure)) for name, measure in rivals.items()} for _ in range(rounds)]
    return {name: min(figure[name] for figure in figures) for name in rivals}


async def _awaited(measure: Callable[[], Awaitable[float]]) -> float:
    return await measure()


def main() -> None:
    rivals: dict[str, Callable[[], Awaitable[float]]] = {"bare asyncio.Queue": bare, "simba_actors": ours}
    for name, measure in {"pykka": with_pykka, "xoscar": with_xoscar}.items():
        if find_spec(name) is None:
            print(f"{name} is not installed, and left out (the extra `benchmarks` has it)")
        else:
            rivals[name] = measure
    calls = best(rivals, ROUNDS)
    for name, seconds in calls.items():
        ratio = calls["bare asyncio.Queue"] / seconds
        print(f"call and reply, {name:20} {seconds * 1e6:6.1f} µs   {ratio:.2f} of the bare loop")
    ratio = calls["bare asyncio.Queue"] / calls["simba_actors"]
    print(f"bar {BAR}: {'met' if ratio >= BAR else 'MISSED'}")
    servers = best({"bare tasks": bare_tasks, "supervised servers": supervised_servers}, 3)
    for name, seconds in servers.items():
        print(f"{SERVERS} {name} started and stopped in order: {seconds * 1e6:.0f} µs each")


if __name__ == "__main__":
    main()
