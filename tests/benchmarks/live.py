"""What following a channel costs a call when nothing new is published.

    python -m tests.benchmarks.live

Bar: at most 20 µs a call more than the student by itself.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import dspy

from simba_actors.live import Channel, LiveProgram
from simba_actors.live.follower import Follower
from simba_actors.programs import ConfigurationSpace
from tests.support.live import sayer

CALLS = 20_000
ROUNDS = 7


class Idle(dspy.Module):
    """A student that takes no time of its own, so that what is added to it can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.ask: Any = sayer()

    async def aforward(self) -> None: ...

    def forward(self) -> None: ...


async def microseconds_a_call(program: Any) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        await program.acall()
    return (time.perf_counter() - started) / CALLS * 1e6


def microseconds_a_sync_call(program: Any) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        program()
    return (time.perf_counter() - started) / CALLS * 1e6


def microseconds_a_look(follower: Follower) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        follower.is_stale()
    return (time.perf_counter() - started) / CALLS * 1e6


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = Path(directory) / "simba.db"
        student = Idle()
        async with await Channel.open(store, "default") as channel:
            own = ConfigurationSpace.from_module(student).extract(student)
            await channel.publish(own, expected=0, reason="as it is")
        live = LiveProgram(student, store=store)
        follower = Follower(store, "default")
        follower.read()
        follower.taken_up()
        rounds = [
            (
                await microseconds_a_call(student),
                await microseconds_a_call(live),
                microseconds_a_sync_call(student),
                microseconds_a_sync_call(live),
                microseconds_a_look(follower),
            )
            for _ in range(ROUNDS)
        ]
    # The least of the rounds is what it costs where nothing else runs on the machine.
    plain, followed, sync_plain, sync_followed, look = (min(column) for column in zip(*rounds, strict=True))
    print(f"acall: student {plain:6.1f} µs, live {followed:6.1f} µs: {followed - plain:+.1f} µs a call (bar: 20)")
    print(f"call:  student {sync_plain:6.1f} µs, live {sync_followed:6.1f} µs: {sync_followed - sync_plain:+.1f} µs")
    print(f"a look at the file, at most four times a second: {look:.1f} µs (bar: 20)")
    if max(followed - plain, sync_followed - sync_plain) + look > 20:
        raise SystemExit("following costs a call more than 20 µs")


if __name__ == "__main__":
    asyncio.run(main())
