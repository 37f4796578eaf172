"""The cost of following a channel for a call when nothing new is published.

    python -m tests.benchmarks.live

Bar: at most 20 µs a call more than the student by itself, also for a call that looks at the file, whether the store is
a file or on another host. What is measured is CPU time of the thread, in turns with and without, so that it hardly
depends on what else the machine does.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import dspy

from simba_actors.live import LiveProgram
from simba_actors.live.follower import Follower
from simba_actors.live.router import LiveState
from simba_actors.programs import ConfigurationSpace
from simba_actors.publishing.channel import Channel
from tests.support.channels import ChannelServers
from tests.support.live import sayer

CALLS = 500
ROUNDS = 60
BAR = 20.0


class Idle(dspy.Module):
    """A student that takes no time of its own, so that the added time is visible."""

    def __init__(self) -> None:
        super().__init__()
        self.ask: Any = sayer()

    async def aforward(self) -> None: ...

    def forward(self) -> None: ...


async def microseconds_a_call(program: Any) -> float:
    started = time.thread_time()
    for _ in range(CALLS):
        await program.acall()
    return (time.thread_time() - started) / CALLS * 1e6


def microseconds_a_sync_call(program: Any) -> float:
    started = time.thread_time()
    for _ in range(CALLS):
        program()
    return (time.thread_time() - started) / CALLS * 1e6


def microseconds_a_look(follower: Follower) -> float:
    started = time.thread_time()
    for _ in range(CALLS):
        follower.is_stale()
    return (time.thread_time() - started) / CALLS * 1e6


async def microseconds_added(student: dspy.Module, live: LiveProgram) -> tuple[float, float]:
    """Return what following adds to an async and to a sync call.

    Medians of differences: two that are measured one right after the other meet the same machine.
    """
    calls: list[float] = []
    sync_calls: list[float] = []
    for _ in range(ROUNDS):
        calls.append(-await microseconds_a_call(student) + await microseconds_a_call(live))
        sync_calls.append(-microseconds_a_sync_call(student) + microseconds_a_sync_call(live))
    return statistics.median(calls), statistics.median(sync_calls)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "simba.db"
        student = Idle()
        async with await Channel.open(store, "default") as channel:
            own = ConfigurationSpace.from_module(student).extract(student)
            await channel.publish(own, expected=0, reason="as it is")
        live = LiveProgram(student, store=store)
        await live.acall()
        follower = Follower(store, "default")
        follower.read()
        follower.acknowledge()
        look = statistics.median(microseconds_a_look(follower) for _ in range(ROUNDS))
        added = {"a file": await microseconds_added(student, live)}
        servers = ChannelServers()
        for transport in ("http", "grpc"):
            with servers.serving(store, transport=transport) as address:
                live = LiveProgram(student, store=address)
                await live.acall()
                if live.state is not LiveState.READY:
                    raise SystemExit(f"{address} is not followed")
                added[f"a server over {transport}"] = await microseconds_added(student, live)
        servers.close()
    print(f"µs of CPU time added, medians of {ROUNDS} rounds of {CALLS} calls; bar: {BAR:.0f} with a look")
    print(f"{'':<36}{'acall':>8}{'call':>8}")
    for store_kind, (calls, sync_calls) in added.items():
        print(f"{f'following {store_kind}':<36}{calls:>8.1f}{sync_calls:>8.1f}")
    print(f"a look at the file, which at most four calls a second take: {look:.1f}")
    if max(max(each) for each in added.values()) + look > BAR:
        raise SystemExit(f"following costs a call more than {BAR:.0f} µs")


if __name__ == "__main__":
    asyncio.run(main())
