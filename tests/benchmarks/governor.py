"""How close the governor comes to a client that knows the endpoint's limit.

    python -m tests.benchmarks.governor

A real server refuses more than N calls at a time. Both clients send the same calls to it, one after the other. The
bars: at least 80 % of the knowing client's throughput, at most 5 % of calls refused.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.retry import Retry
from simba_actors.lm.rollout_context import RolloutContext
from simba_actors.lm.usage import Meter
from tests.support.openai_server import Faults, OpenAIServer
from tests.support.quiz import quiz_script

LATENCY = 0.1
SECONDS = 6.0
"""Seconds that the client with the known limit takes at best."""

LEAST_RATIO = 0.8
MOST_REFUSED = 0.05

Call = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Measured:
    seconds: float
    calls: int
    refused: int


class RefusedError(Exception):
    """The server's refusal of calls beyond its limit."""

    status = 429

    def __init__(self, retry_after: float | None) -> None:
        self.retry_after = retry_after


class Connections:
    """A client with little overhead: kept-alive connections, with one call at a time on each."""

    def __init__(self, server: OpenAIServer) -> None:
        self._port = int(server.address.rpartition(":")[2].partition("/")[0])
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, number: int) -> None:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        body: dict[str, Any] = {"model": "quiz", "messages": [{"role": "user", "content": f"call {number}"}]}
        content = json.dumps(body).encode()
        writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:-2])
        await reader.readexactly(int(headers["content-length"]))
        self._idle.append((reader, writer))
        if " 429 " in head[0]:
            wait = headers.get("retry-after")
            raise RefusedError(None if wait is None else float(wait))

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def measured(server: OpenAIServer, calls: int, workers: int, call: Call) -> Measured:
    """Send `calls` from this many `workers`, which is more than may be in flight."""
    numbers = iter(range(calls))
    before, refused = server.calls, server.fates["rate_limited"]
    started = time.perf_counter()

    async def work() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(work() for _ in range(workers)))
    seconds = time.perf_counter() - started
    return Measured(seconds, server.calls - before, server.fates["rate_limited"] - refused)


def calls_at(limit: int) -> int:
    return round(SECONDS / LATENCY * limit)


async def knowing(limits: list[int]) -> list[Measured]:
    """Measure a client for each limit of the server, with just as many workers."""
    with OpenAIServer(quiz_script, latency=LATENCY) as server:
        connections = Connections(server)
        measurements = [await measured(server, calls_at(limit), limit, connections.send) for limit in limits]
        connections.close()
    return measurements


async def governed(limits: list[int]) -> list[Measured]:
    """Measure one governor with all limits, one after the other."""
    governor = Governor(retry=Retry(attempts=1000))
    endpoint = governor.endpoint("quiz")
    with OpenAIServer(quiz_script, latency=LATENCY) as server:
        connections = Connections(server)

        async def call(number: int) -> None:
            await governor.call(endpoint, Caller(), RolloutContext(Meter()), lambda: connections.send(number))

        measurements: list[Measured] = []
        for limit in limits:
            server.faults = Faults(at_a_time=limit)
            measurements.append(await measured(server, calls_at(limit), 128, call))
        connections.close()
    return measurements


async def compare(name: str, limits: list[int]) -> bool:
    known, found = await knowing(limits), await governed(limits)
    ratios = [mine.seconds / theirs.seconds for mine, theirs in zip(known, found, strict=True)]
    refused = sum(part.refused for part in found) / sum(part.calls for part in found)
    parts = ", ".join(f"{ratio:.2f} at N = {limit}" for ratio, limit in zip(ratios, limits, strict=True))
    print(f"{name}: {parts} of the throughput of a client that knows N, {refused:.1%} of calls refused")
    return min(ratios) >= LEAST_RATIO and refused <= MOST_REFUSED


async def main() -> None:
    good = [await compare("steady", [4]), await compare("steady", [32]), await compare("changing", [32, 8, 32])]
    print("all bars are met" if all(good) else f"missed: ratio >= {LEAST_RATIO}, refused <= {MOST_REFUSED:.0%}")


if __name__ == "__main__":
    asyncio.run(main())
