"""A signal ends a run within a second, although every call takes an hour.

The process has a virtual clock. It sends itself the signal when its first call hangs, and writes down how many seconds
pass until the run is stopped.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from simba_actors import Optimizer, OptimizerConfig
from simba_actors.store import ownership
from tests.support.children import start_process
from tests.support.quiz import quiz_script
from tests.support.runs import findings, finish, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.seeded_loop import SeededLoop, use_one_thread
from tests.support.waiting import ended

FOR_EVER = 3600.0
SEEDS = range(3)


class Sender:
    """Sends the process a signal when a call hangs and the host is `ready`, and measures the seconds from then on."""

    def __init__(self, number: signal.Signals, noted: Path) -> None:
        self.ready: Callable[[], bool] = lambda: True
        self._number = number
        self._noted = noted
        self._asked = False
        self._sent = 0.0

    def latency(self, _: Ask) -> float:
        if not self._asked:
            self._asked = True
            self._send()
        return FOR_EVER

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        if self.ready():
            self._sent = loop.time()
            loop.call_soon(signal.raise_signal, self._number)
        else:
            loop.call_soon(self._send)

    def note(self, loop: asyncio.AbstractEventLoop) -> None:
        self._noted.write_text(str(loop.time() - self._sent))


def config_for(store: Path, latency: Callable[[Ask], float] | float = 0.0) -> OptimizerConfig:
    lms = {name: ScriptedLM(quiz_script, latency=latency) for name in ("lm", "prompt_model")}
    return small_config(store, run_id="run", **lms)


def script(number: signal.Signals, seed: int, store: Path, noted: Path) -> None:
    """Wait for the result, as a script does."""
    sender = Sender(number, noted)

    async def main() -> None:
        async with await Optimizer.start(config_for(store, sender.latency)) as optimizer:
            await optimizer.result()

    use_one_thread(pytest.MonkeyPatch())
    with asyncio.Runner(loop_factory=lambda: SeededLoop(seed)) as runner:
        try:
            runner.run(main())
        finally:
            sender.note(runner.get_loop())


def script_that_ends_at_sigterm(number: signal.Signals, seed: int, store: Path, noted: Path) -> None:
    """Handle SIGTERM like Ctrl-C, as the README recommends."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    script(number, seed, store, noted)


def service(number: signal.Signals, seed: int, store: Path, noted: Path) -> None:
    """Optimize while the server is up."""
    sender = Sender(number, noted)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with await Optimizer.start(config_for(store, sender.latency)):
            yield
        sender.note(asyncio.get_running_loop())

    server = uvicorn.Server(uvicorn.Config(Starlette(lifespan=lifespan), port=0, log_level="error"))
    sender.ready = lambda: server.started
    use_one_thread(pytest.MonkeyPatch())
    with asyncio.Runner(loop_factory=lambda: SeededLoop(seed)) as runner:
        runner.run(server.serve())


HOSTS: dict[str, tuple[Callable[..., None], signal.Signals, int]] = {
    "ctrl_c_in_a_script": (script, signal.SIGINT, 1),
    "sigterm_in_a_script": (script_that_ends_at_sigterm, signal.SIGTERM, 1),
    "ctrl_c_in_a_service": (service, signal.SIGINT, 1),
    "sigterm_in_a_service": (service, signal.SIGTERM, -signal.SIGTERM),
}
"""Hosts, the signals that they get, and their exit codes."""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", HOSTS)
def test_a_signal_stops_a_run_within_a_second(case: str, seed: int, tmp_path: Path) -> None:
    host, number, exit_code = HOSTS[case]
    noted = tmp_path / "seconds"
    child = start_process(host, number, seed, tmp_path / "simba.db", noted)
    assert ended(child) == exit_code
    assert float(noted.read_text()) < 1.0


def test_a_sigterm_without_a_handler_ends_the_process_at_once(tmp_path: Path) -> None:
    child = start_process(script, signal.SIGTERM, 0, tmp_path / "simba.db", tmp_path / "seconds")
    assert ended(child) == -signal.SIGTERM
    assert not (tmp_path / "seconds").exists()


@pytest.mark.parametrize("case", HOSTS)
async def test_a_run_that_a_signal_stopped_continues_as_if_it_had_not(case: str, tmp_path: Path) -> None:
    host, number, _ = HOSTS[case]
    stopped, whole = config_for(tmp_path / "stopped.db"), config_for(tmp_path / "whole.db")
    child = start_process(host, number, 0, stopped.store, tmp_path / "seconds")
    await asyncio.to_thread(ended, child)
    await finish(stopped)
    await finish(whole)
    assert await findings(stopped, "run") == await findings(whole, "run")


@pytest.mark.parametrize("case", HOSTS)
async def test_a_run_that_a_signal_stopped_is_free_for_another_machine(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, number, _ = HOSTS[case]
    stopped = config_for(tmp_path / "stopped.db")
    child = start_process(host, number, 0, stopped.store, tmp_path / "seconds")
    await asyncio.to_thread(ended, child)
    monkeypatch.setattr(ownership, "_host", lambda: "another machine")
    async with await Optimizer.start(stopped) as optimizer:
        assert (await optimizer.status()).status == "running"
