"""How long an optimization holds up the host where there are many examples: its event loop, and Python's interpreter.

    python -m tests.benchmarks.holds            # 100,000 examples, about a minute
    python -m tests.benchmarks.holds 5000
    python -m tests.benchmarks.holds 200 800    # 800 predictors: a run of one short step, without garbage collections

The event loop is held by what runs on it: the CPU time of a turn, from making the config to the first improved program.
The interpreter is held by a call of C code in another thread, such as that of the policy: the CPU time of that thread
from one wake-up of a watching thread to the next, which Python grants every 5 ms to whoever waits. The bar is 10 ms.
Passes of Python's garbage collector are shown apart: they go through the host's own examples. Measure on a quiet
machine, where the watching thread does not wait for a core.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dspy

from simba_actors import Budget, Optimizer, OptimizerConfig
from simba_actors.search.progress import Progress
from simba_actors.search.rollout import Usage
from simba_actors.strategies import AppendADemo
from tests.benchmarks.growth import SimulatedRun, World
from tests.benchmarks.neighbour import Bare, SlowGuesser, WatchedSelector, be_up, guessing
from tests.support.quiz import ANSWERS, exact

EXAMPLES, CALLS, STEPS = 100_000, 8_000, 5_000
LOOK_EVERY = 0.0005
BAR = 0.010

Hold = tuple[float, str]
"""Seconds of CPU time, and the line that the thread was at afterwards."""


class Collections:
    """Passes of the garbage collector: whether one runs, and the CPU time in seconds of the longest."""

    def __init__(self) -> None:
        self.running = False
        self.longest = 0.0
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
            self.running = True
        else:
            self.longest = max(self.longest, time.thread_time() - self._began)
            self.running = False


@contextmanager
def garbage_collections() -> Any:
    found = Collections()
    gc.callbacks.append(found)
    try:
        yield found
    finally:
        gc.callbacks.remove(found)


def watched(work: Callable[[], Any]) -> tuple[dict[str, Hold], float]:
    """Run `work` in a thread. Return the longest hold of each of its calls, and the longest garbage collection."""
    holds: dict[str, Hold] = {}
    thread = threading.Thread(target=work)
    with garbage_collections() as passes:
        thread.start()
        assert thread.ident is not None
        clock = time.pthread_getcpuclockid(thread.ident)
        with suppress(OSError):  # The thread has ended, and its clock with it.
            while thread.is_alive():
                before, known, name = time.clock_gettime(clock), passes.longest, current[0]
                time.sleep(LOOK_EVERY)
                held = time.clock_gettime(clock) - before
                if passes.running or passes.longest > known:
                    continue
                if held > holds.get(name, (0.0, ""))[0]:
                    holds[name] = held, where(thread.ident)
        thread.join()
    return holds, passes.longest


def where(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    return "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


current = [""]
"""The call of the policy that runs."""


class NamedRun(SimulatedRun):
    def timed(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        current[0] = name
        try:
            return super().timed(name, call, *args, **kwargs)
        finally:
            current[0] = ""


def policy(examples: int) -> tuple[dict[str, Hold], float]:
    run = NamedRun(CALLS, World(examples, 0), 0)
    holds, garbage = watched(run.result)
    holds.pop("", None)  # What is simulated.
    return holds, garbage


def trend() -> float:
    """CPU time of the trend at the last of many steps."""
    progress: Progress | None = None
    for step in range(STEPS):
        progress = Progress(step + 1, None, step % 7 / 7, (), Usage(), 0.0, before=progress)
    assert progress is not None
    began = time.thread_time()
    assert progress.trend is not None
    return time.thread_time() - began


class Large(Bare):
    """Has more predictors than it calls."""

    def __init__(self, predictors: int) -> None:
        super().__init__()
        self.others = [dspy.Predict("question -> answer") for _ in range(predictors - 1)]


def loop(examples: int, predictors: int = 1) -> tuple[float, float, float]:
    """The CPU time of making the config, of the longest turn of the loop afterwards, and of the longest pass of the
    garbage collector in one."""
    rows = World(examples, 0).rows
    trainset = [
        dspy.Example(question=row.text, answer=ANSWERS[n % len(ANSWERS)]).with_inputs("question")
        for n, row in enumerate(rows)
    ]
    selector = WatchedSelector()
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner,
        garbage_collections() as passes,
    ):
        config = runner.run(start(trainset, predictors, Path(directory) / "simba.db", selector.turns))
    return config, max(selector.turns), passes.longest


def start(trainset: list[dspy.Example], predictors: int, store: Path, turns: list[float]) -> Coroutine[Any, Any, float]:
    """Return the CPU time of making the config. Of the `turns`, those after it are left."""
    size: dict[str, Any] = {"budget": Budget(max_calls=1_000)}
    if predictors > 1:  # A budget would have to be for calls of each of them.
        size = {"max_steps": 1, "bsize": 8, "num_candidates": 2}

    async def main() -> float:
        with dspy.context(disable_history=True):
            config = OptimizerConfig(
                student=Large(predictors),
                metric=exact,
                trainset=trainset,
                store=store,
                lm=guessing(SlowGuesser()),
                strategies=[AppendADemo()],
                max_concurrency=64,
                **size,
            )
            await asyncio.sleep(0)
            made = max(turns)
            turns.clear()
            async with await Optimizer.start(config) as optimizer:
                await optimizer.result()
        return made

    return main()


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES
    predictors = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    be_up()
    if predictors > 1:
        gc.disable()
    config, turn, garbage = loop(examples, predictors)
    print(
        f"loop, {examples:,} examples, {predictors:,} predictors: config {config * 1e3:.1f} ms, "
        f"longest turn of the run {turn * 1e3:.1f}, longest garbage collection {garbage * 1e3:.1f}"
    )
    if predictors > 1:
        return
    holds, garbage = policy(examples)
    print(f"interpreter, {CALLS:,} calls and {examples:,} examples, milliseconds; garbage {garbage * 1e3:.1f}:")
    for name, (held, line) in sorted(holds.items(), key=lambda hold: -hold[1][0]):
        print(f"  {name:<16}{held * 1e3:>8.1f}  {line}{'   over the bar' if held > BAR else ''}")
    print(f"trend at step {STEPS:,}: {trend() * 1e3:.1f} ms in all")


if __name__ == "__main__":
    main()
