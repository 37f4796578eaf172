"""What a host's event loop notices of LM calls beside it: an optimization's, and a bare `asyncio.gather` of as many, on
the same loop and on one in a thread of its own.

    python -m tests.benchmarks.neighbour                        # all cases, about 80 s
    python -m tests.benchmarks.neighbour "an optimization"

256 calls in flight, each taking 0.5 s, by a student that spends little on its prompts, so that there are about 500 a
second. Bars: in a host that does nothing special, the loop's delay stays under 15 ms at the 99th percentile and under
60 ms at most. Other programs on the machine delay every loop: beside the delay by the clock stands the CPU time of the
loop's turns, which shows what is the loop's own. Measure on a quiet machine.

All of it twice: in a host that does nothing special, and in one that follows the advice for hosts that count
milliseconds. The latter keeps Python's garbage collector from going through what was imported, collects garbage by the
clock, and has its other threads give way soon.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import selectors
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

from simba_actors import Optimizer, OptimizerConfig
from simba_actors.strategies import AppendADemo
from tests.support.quiz import ANSWERS, exact, questions

IN_FLIGHT = 256
LATENCY = 0.5
SECONDS = 8.0
WARM_UP = 2.0
PROBE_EVERY = 0.005
REQUEST_EVERY = 0.01
P99_BAR, MOST_BAR = 0.015, 0.060
YOUNG_EVERY, OLDER_EVERY = 0.01, 10.0
"""Seconds between passes through the objects since the last one, which then are few, and those through all since the
last one of these. Left to itself, Python waits until there are many: passes of 10 ms, and of 100 each second."""
SHORT_SWITCHES = 0.0005
"""Seconds for `sys.setswitchinterval`. With the default of 0.005 s, a loop that wakes up waits that long for a busy
thread."""


class Bare(dspy.Module):
    """Calls its LM without an adapter, since writing prompts takes as much CPU time as everything else about a call."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        settings, answer = cast("Any", dspy.settings), cast("Any", self.answer)
        known = [f"{demo['question']} {demo['answer']}" for demo in answer.demos]
        prompt = "\n".join([answer.signature.instructions, *known, question])
        (reply,) = await (answer.lm or settings.lm).acall(prompt)
        prediction = dspy.Prediction(answer=reply)
        if settings.trace is not None:
            settings.trace.append((answer, {"question": question}, prediction))
        return prediction


REPLIES = [
    Response(
        id=None,
        model="guesser",
        message=Message.assistant([TextPart(answer)]),
        finish_reason="stop",
        usage=Usage(input_tokens=20, output_tokens=1, total_tokens=21),
    )
    for answer in ANSWERS
]
"""Replies made beforehand, since a provider's work is not the host's."""


class Guesser:
    """An LM that answers at once."""

    def complete(self, request: Request) -> Response:
        return random.choice(REPLIES)


class SlowGuesser:
    """An LM that answers after a while, and counts its answers."""

    def __init__(self) -> None:
        self.calls = 0

    async def complete(self, request: Request) -> Response:
        await asyncio.sleep(LATENCY)
        self.calls += 1
        return random.choice(REPLIES)


def guessing(slow: SlowGuesser) -> dspy.LM:
    return dspy.LM("simulated/guesser", engine=Guesser(), async_engine=slow, cache=False)


class WatchedSelector(selectors.DefaultSelector):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    """Records the CPU time that the loop spends between two polls for events: its turns."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[float] = []
        self._began = time.thread_time()

    def select(self, timeout: float | None = None) -> Any:
        self.turns.append(time.thread_time() - self._began)
        events = super().select(timeout)
        self._began = time.thread_time()
        return events


@dataclass
class Findings:
    """Measurements in seconds: the loop's delay, the CPU time of its turns, and the duration of requests."""

    delays: list[float] = field(default_factory=list[float])
    turns: list[float] = field(default_factory=list[float])
    requests: list[float] = field(default_factory=list[float])
    calls: float = 0.0


async def probe(findings: Findings) -> None:
    while True:
        due = time.perf_counter() + PROBE_EVERY
        await asyncio.sleep(PROBE_EVERY)
        findings.delays.append(time.perf_counter() - due)


async def arrivals(findings: Findings) -> None:
    """Let requests arrive whatever the loop is doing, each with three steps on it."""

    async def request(arrived: float) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        findings.requests.append(time.perf_counter() - arrived)

    due = time.perf_counter()
    async with asyncio.TaskGroup() as requests:
        while True:
            due += REQUEST_EVERY
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            requests.create_task(request(due))


async def collect_by_the_clock() -> None:
    gc.disable()
    try:
        for passes in itertools.count(1):
            await asyncio.sleep(YOUNG_EVERY)
            gc.collect(1 if passes % round(OLDER_EVERY / YOUNG_EVERY) == 0 else 0)
    finally:
        gc.enable()


async def measured(
    beside: Callable[[Any], Awaitable[None]], selector: WatchedSelector, collector: Callable[[], Awaitable[None]]
) -> Findings:
    findings, guesser = Findings(), SlowGuesser()
    collecting = asyncio.ensure_future(collector())
    with dspy.context(disable_history=True):
        work = asyncio.ensure_future(beside(guessing(guesser)))
    await asyncio.sleep(WARM_UP)
    calls, selector.turns = guesser.calls, []
    watchers = [asyncio.ensure_future(probe(findings)), asyncio.ensure_future(arrivals(findings))]
    await asyncio.sleep(SECONDS)
    findings.calls, findings.turns = (guesser.calls - calls) / SECONDS, list(selector.turns)
    for task in (*watchers, work, collecting):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return findings


async def leave_it_to_python() -> None:
    await asyncio.Event().wait()


async def nothing(lm: Any) -> None:
    await asyncio.Event().wait()


async def bare_gather(lm: Any) -> None:
    student, rows = Bare(), questions(64)

    async def caller(number: int) -> None:
        while True:
            await student.acall(**rows[number % len(rows)].inputs())

    with dspy.context(lm=lm):
        await asyncio.gather(*(caller(number) for number in range(IN_FLIGHT)))


async def gather_in_a_thread(lm: Any) -> None:
    runner = asyncio.Runner()
    loop = runner.get_loop()
    calls = loop.create_task(bare_gather(lm))

    def run_calls() -> None:
        with runner, suppress(asyncio.CancelledError):
            loop.run_until_complete(calls)

    thread = threading.Thread(target=run_calls)
    thread.start()
    try:
        await asyncio.Event().wait()
    finally:
        loop.call_soon_threadsafe(calls.cancel)
        thread.join()


async def optimization(lm: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        config = OptimizerConfig(
            student=Bare(),
            metric=exact,
            trainset=questions(256),
            store=Path(directory) / "simba.db",
            lm=lm,
            policy="dspy",
            strategies=[AppendADemo()],
            bsize=256,
            num_candidates=24,
            max_steps=50,
            max_concurrency=IN_FLIGHT,
        )
        async with await Optimizer.start(config) as optimizer:
            await optimizer.result()


def be_up() -> None:
    """Make a first call and a first loop, so that everything is imported as in a service that is up."""
    with dspy.context(lm=guessing(SlowGuesser())):
        # DSPy's part of a call, anyio's of an event loop.
        asyncio.run(Bare().acall(question="?"))
        anyio.run(anyio.sleep, 0)


def run(beside: Callable[[Any], Awaitable[None]], collector: Callable[[], Awaitable[None]]) -> Findings:
    selector = WatchedSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(measured(beside, selector, collector))


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def shown(values: list[float]) -> str:
    return f"{percentile(values, 99) * 1e3:>8.1f}{max(values) * 1e3:>8.1f}"


def table(chosen: Iterable[str], collector: Callable[[], Awaitable[None]]) -> dict[str, Findings]:
    found: dict[str, Findings] = {}
    for name in chosen:
        found[name] = of = run(CASES[name], collector)
        print(f"{name:<18}{of.calls:>11.0f}   {shown(of.delays)}{shown(met(of.turns))}{shown(of.requests)}", flush=True)
    return found


def met(turns: list[float]) -> list[float]:
    """Return the turns weighted by their length, as requests meet them."""
    return [turn for turn in turns for _ in range(max(1, round(turn * 1e3)))]


CASES = {
    "nothing": nothing,
    "a bare gather": bare_gather,
    "in a thread": gather_in_a_thread,
    "an optimization": optimization,
}


def main() -> None:
    chosen = sys.argv[1:] or list(CASES)
    print(f"{'milliseconds':<18}{'LM calls/s':>11}   {'delay':>14}  {'CPU of turns':>16}  {'requests':>14}")
    print(f"{'beside the host':<18}{'':>11}   {'p99':>8}{'most':>8}{'p99':>8}{'most':>8}{'p99':>8}{'most':>8}")
    be_up()
    print("in a host that does nothing special:")
    found = table(chosen, leave_it_to_python)
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SHORT_SWITCHES)
    print(f"with gc.freeze(), gc.collect(0) every {YOUNG_EVERY:g} s and sys.setswitchinterval({SHORT_SWITCHES}):")
    table(chosen, collect_by_the_clock)
    if "an optimization" in found:
        delays = found["an optimization"].delays
        if percentile(delays, 99) > P99_BAR or max(delays) > MOST_BAR:
            raise SystemExit(f"bars: {P99_BAR * 1e3:.0f} ms at the 99th percentile, {MOST_BAR * 1e3:.0f} ms at most")


if __name__ == "__main__":
    main()
