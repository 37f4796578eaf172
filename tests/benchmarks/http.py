"""CPU time of a call where the LM is a server: a run's, `dspy.SIMBA`'s, and a bare `asyncio.gather`'s.

    python -m tests.benchmarks.http            # all contenders, three times, about 5 minutes
    python -m tests.benchmarks.http --model openai/gpt-4o-mini      # a name that DSPy's list of models has
    python -m tests.benchmarks.http --profile "policy=dspy"

An OpenAI-protocol server on loopback, in a process of its own, answers after 20 ms. 32 calls are in flight, and
programs have up to 8 demos. Only the client's process is measured, each contender in one of its own. They take turns,
and the ratios are of medians. "DSPy's client" sends the gather's requests by `lm.acall`, without a predictor or an
adapter: this is what DSPy and HTTP cost whoever makes the calls.

Optimizers differ in how many demos they use. So each one is also compared with a gather whose prompts have as many
messages on average as its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import importlib
import io
import itertools
import json
import multiprocessing
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, cast

LATENCY = 0.02
IN_FLIGHT = 32
MAX_DEMOS = 8
PROGRAMS, MEAN_DEMOS = 8, 3.5
"""Programs of the gather, and their demos on average: a prompt of eight messages, without the system's."""
BSIZE, CANDIDATES, STEPS, EXAMPLES = 32, 6, 3, 64
REPETITIONS = 3
BARS = {"policy=dspy": 0.9, "policy=adaptive": 1.05}
"""Maximum CPU time of a call, as a multiple of the bare gather's."""


def serve(connection: Connection) -> None:
    """Answer in the server's process until it is asked to stop, then report the number of calls."""
    from tests.support.openai_server import OpenAIServer
    from tests.support.quiz import legible_script

    with OpenAIServer(legible_script, latency=LATENCY) as server:
        connection.send(server.address)
        while connection.recv() == "calls?":
            connection.send((server.calls, sum(len(ask.messages) for ask in server.asks)))


@contextlib.contextmanager
def a_server() -> Any:
    """Yield the server's address, and a function that returns the number of calls that it has answered, and of
    messages in them."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=[there])
    process.start()

    def calls() -> tuple[int, int]:
        here.send("calls?")
        return cast("tuple[int, int]", here.recv())

    try:
        yield here.recv(), calls
    finally:
        here.send("stop")
        process.join()


model = ["openai/quiz"]
"""Name of the model that the server is called by. The default is not in DSPy's list of models."""


def lm_at(address: str) -> Any:
    from tests.support import openai_server

    return openai_server.lm_at(address, model[0])


def student() -> Any:
    import dspy

    return dspy.Predict("question -> answer")


def programs(demos: float) -> list[Any]:
    """Return students with `demos` demos on average: up to twice as many each."""
    from tests.support.quiz import questions

    shown = questions(round(2 * demos), start=1000)
    made = [student() for _ in range(PROGRAMS)]
    left = round(PROGRAMS * demos)
    for number, program in enumerate(made):
        program.demos = shown[: round(left * 2 * number / (PROGRAMS * (PROGRAMS - 1)))]
    return made


def bare_gather(address: str, demos: float = MEAN_DEMOS) -> None:
    """Make as many calls as a run does, with `demos` demos on average."""
    import dspy

    from tests.support.quiz import questions

    rows, shown = questions(EXAMPLES), programs(demos)

    async def run() -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(number: int) -> None:
            async with slots:
                await shown[number % PROGRAMS].acall(**rows[number % EXAMPLES].inputs())

        await asyncio.gather(*(one(number) for number in range(CALLS)))

    with dspy.context(lm=lm_at(address)):
        asyncio.run(run())


def dspys_client(address: str) -> None:
    import dspy

    from tests.support.quiz import questions

    rows, adapter, shown = questions(EXAMPLES), dspy.ChatAdapter(), programs(MEAN_DEMOS)
    messages = [
        adapter.format(program.signature, program.demos, dict(rows[number].inputs()))
        for number, program in zip(range(EXAMPLES), itertools.cycle(shown), strict=False)
    ]
    lm = lm_at(address)

    async def run() -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(number: int) -> None:
            async with slots:
                await lm.acall(messages=messages[number % EXAMPLES])

        await asyncio.gather(*(one(number) for number in range(CALLS)))

    asyncio.run(run())


CALLS = STEPS * BSIZE * (2 * CANDIDATES + 1) + (CANDIDATES + 1) * EXAMPLES
"""Number of calls, about as many as a run makes."""


def dspy_simba(address: str) -> None:
    import dspy

    from tests.support.quiz import exact, questions

    simba = dspy.SIMBA(
        metric=cast("Any", exact),
        bsize=BSIZE,
        num_candidates=CANDIDATES,
        max_steps=STEPS,
        max_demos=MAX_DEMOS,
        num_threads=IN_FLIGHT,
    )
    lm = lm_at(address)
    simba.prompt_model = lm
    simba.strategies = simba.strategies[:1]
    with dspy.context(lm=lm):
        simba.compile(student(), trainset=questions(EXAMPLES), seed=0)


def ours(policy: Literal["dspy", "adaptive"]) -> Callable[[str], None]:
    async def optimize(address: str, store: Path) -> None:
        from simba_actors import Budget, Optimizer, OptimizerConfig
        from simba_actors.strategies import AppendADemo
        from tests.support.quiz import exact, questions

        config = OptimizerConfig(
            student=student(),
            metric=exact,
            trainset=questions(EXAMPLES),
            store=store,
            lm=lm_at(address),
            policy=policy,
            strategies=[AppendADemo()],
            bsize=BSIZE,
            num_candidates=CANDIDATES,
            max_steps=STEPS if policy == "dspy" else None,
            max_demos=MAX_DEMOS,
            max_concurrency=IN_FLIGHT,
            budget=Budget(max_calls=CALLS),
            stop_when=None,
        )
        async with await Optimizer.start(config) as optimizer:
            await optimizer.result()

    def run(address: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(optimize(address, Path(directory) / "simba.db"))

    return run


CONTENDERS: dict[str, Callable[[str], None]] = {
    "DSPy's client": dspys_client,
    "bare gather": bare_gather,
    "dspy.SIMBA": dspy_simba,
    "policy=dspy": ours("dspy"),
    "policy=adaptive": ours("adaptive"),
}


OPTIMIZERS = ("dspy.SIMBA", "policy=dspy", "policy=adaptive")


def measured(who: str, demos: float | None = None) -> dict[str, float]:
    """Return the milliseconds of this process's CPU time for each call, the calls, and the messages in each."""
    contender = CONTENDERS[who] if demos is None else partial(bare_gather, demos=demos)
    with a_server() as (address, calls), contextlib.redirect_stdout(io.StringIO()):
        warm_up(address)
        (before, known), started = calls(), time.process_time()
        contender(address)
        seconds, (after, messages) = time.process_time() - started, calls()
    made = after - before
    return {"ms": 1e3 * seconds / made, "calls": made, "messages": (messages - known) / made}


def in_own_process(who: str, *options: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.http", "--model", model[0], "--one", who, *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def warm_up(address: str) -> None:
    """Load what each process loads only once."""
    import dspy

    importlib.import_module("simba_actors.optimizer")
    with dspy.context(lm=lm_at(address)):
        asyncio.run(student().acall(question="?"))
        student()(question="?")


def profile(who: str) -> None:
    with a_server() as (address, _):
        warm_up(address)
        profiler = cProfile.Profile()
        profiler.runcall(CONTENDERS[who], address)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--demos", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--profile", choices=CONTENDERS, help="show where one contender spends its time")
    parser.add_argument("--model", default=model[0], help="name of the model, which the server does not look at")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    options = parser.parse_args()
    model[0] = options.model
    if options.one:
        print(json.dumps(measured(options.one, options.demos)))
        return
    if options.profile:
        profile(options.profile)
        return
    found: dict[str, list[dict[str, float]]] = {who: [] for who in CONTENDERS}
    alike: dict[str, list[float]] = {who: [] for who in OPTIMIZERS}
    for _ in range(options.repetitions):
        for who, runs in found.items():
            runs.append(in_own_process(who))
            if who in alike:
                demos = (runs[-1]["messages"] - 1) / 2  # Two messages each; the last one is the question.
                alike[who].append(in_own_process("bare gather", "--demos", str(demos))["ms"])
    medians = {who: statistics.median(run["ms"] for run in runs) for who, runs in found.items()}
    print(f"{'':<18}{'ms of CPU a call':>18}{'calls':>8}{'messages':>10}   ratio to the bare gather, and to one alike")
    for who, ms in medians.items():
        run = found[who][0]
        line = f"{who:<18}{ms:>18.2f}{run['calls']:>8.0f}{run['messages']:>10.1f}   {ms / medians['bare gather']:.2f}"
        line += f"{ms / statistics.median(alike[who]):>6.2f}" if who in alike else ""
        print(line + (f"  (bar: at most {BARS[who]})" if who in BARS else ""))


if __name__ == "__main__":
    main()
