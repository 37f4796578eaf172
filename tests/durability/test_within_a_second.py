"""Requests of the host take effect within a second, by a virtual clock, however slow the LM is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from simba_actors import Optimizer
from tests.support.quiz import quiz_script
from tests.support.runs import small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.seeded_loop import SeededLoop, run_seeded, use_one_thread

FOR_EVER = 3600.0

pytestmark = pytest.mark.parametrize("seed", range(3))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    use_one_thread(monkeypatch)


async def started(store: Path) -> Optimizer:
    """Start a run, and return it once a call hangs."""
    asked = asyncio.Event()

    def hang(_: Ask) -> float:
        asked.set()
        return FOR_EVER

    lm = ScriptedLM(quiz_script, latency=hang)
    optimizer = await Optimizer.start(small_config(store, lm=lm, prompt_model=lm))
    await asked.wait()
    return optimizer


async def seconds(asked: Callable[[], Awaitable[None]]) -> float:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asked()
    return loop.time() - before


def test_a_pause(seed: int, tmp_path: Path) -> None:
    async def main() -> tuple[float, str]:
        async with await started(tmp_path / "simba.db") as optimizer:
            return await seconds(optimizer.pause), (await optimizer.status()).status

    took, status = run_seeded(seed, main())
    assert (took < 1.0, status) == (True, "paused")


def test_a_resume(seed: int, tmp_path: Path) -> None:
    async def main() -> tuple[float, str]:
        async with await started(tmp_path / "simba.db") as optimizer:
            await optimizer.pause()
            return await seconds(optimizer.resume), (await optimizer.status()).status

    took, status = run_seeded(seed, main())
    assert (took < 1.0, status) == (True, "running")


def test_a_stop(seed: int, tmp_path: Path) -> None:
    async def main() -> tuple[float, int]:
        optimizer = await started(tmp_path / "simba.db")
        return await seconds(optimizer.stop), len(asyncio.all_tasks())

    took, tasks = run_seeded(seed, main())
    assert (took < 1.0, tasks) == (True, 1)


def test_the_end_of_the_loop(seed: int, tmp_path: Path) -> None:
    kept: list[Optimizer] = []

    async def main() -> float:
        kept.append(await started(tmp_path / "simba.db"))
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=lambda: SeededLoop(seed)) as runner:
        before, loop = runner.run(main()), runner.get_loop()
    assert loop.time() - before < 1.0
