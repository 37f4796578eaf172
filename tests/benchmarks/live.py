"""What following a channel costs a call when nothing new is published.

    python -m tests.benchmarks.live

Bar: at most 20 µs a call more than the student by itself, also for a call that looks at the file. What is measured is
CPU time of the thread, in turns with and without, so that it hardly depends on what else the machine does.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import dspy

from simba_actors.live import Channel, LiveProgram
from simba_actors.live.follower import Follower
from simba_actors.programs import ConfigurationSpace
from tests.support.live import sayer

CALLS = 500
ROUNDS = 60
BAR = 20.0


class Idle(dspy.Module):
    """A student that takes no time of its own, so that what is added to it can be seen."""

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


def median_difference(pairs: list[tuple[float, float]]) -> float:
    """What the second of each pair took more: two that were measured one right after the other met the same machine."""
    return statistics.median(after - before for before, after in pairs)


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
        follower.taken_up()
        calls: list[tuple[float, float]] = []
        sync_calls: list[tuple[float, float]] = []
        looks: list[float] = []
        for _ in range(ROUNDS):
            calls.append((await microseconds_a_call(student), await microseconds_a_call(live)))
            sync_calls.append((microseconds_a_sync_call(student), microseconds_a_sync_call(live)))
            looks.append(microseconds_a_look(follower))
    added, sync_added, look = median_difference(calls), median_difference(sync_calls), statistics.median(looks)
    print(f"CPU time, medians of {ROUNDS} rounds of {CALLS} calls; bar: {BAR:.0f} µs")
    print(f"acall:  {added:+5.1f} µs a call more than the student by itself")
    print(f"call:   {sync_added:+5.1f} µs")
    print(f"look:   {look:+5.1f} µs a look at the file, which at most four calls a second take")
    if max(added, sync_added) + look > BAR:
        raise SystemExit(f"following costs a call more than {BAR:.0f} µs")


if __name__ == "__main__":
    asyncio.run(main())
