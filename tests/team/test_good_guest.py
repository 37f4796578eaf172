"""A run is a good guest: it does not block the host's event loop, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Optimizer, evaluate
from simba_actors.errors import FingerprintMismatchError
from simba_actors.evaluation.binding import StudentCopy
from simba_actors.evaluation.executor import LocalExecutor, RolloutTask
from simba_actors.lm.governor import Governor
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.policy import Policy
from simba_actors.search.rollout import JSON
from simba_actors.search.simba.policy import DspyPolicy
from simba_actors.strategies import StrategyContext
from tests.support.quiz import exact, questions, quiz_script
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.threads import no_threads_left
from tests.support.ticker import Ticker
from tests.support.waiting import PATIENCE


class BlockingStudent(dspy.Module):
    def __init__(self, ticker: Ticker) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self._ticker = ticker

    def forward(self, question: str) -> dspy.Prediction:
        self._ticker.blocks_until_the_loop_has_ticked()
        return self.predict(question=question)

    def __deepcopy__(self, memo: dict[int, Any]) -> BlockingStudent:
        copied = BlockingStudent(self._ticker)
        copied.predict = self.predict.deepcopy()
        return copied


async def test_the_loop_ticks_while_a_sync_student_and_a_sync_metric_block(tmp_path: Path) -> None:
    ticker = Ticker()

    def blocking_metric(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        ticker.blocks_until_the_loop_has_ticked()
        return exact(example, prediction)

    ticking = asyncio.create_task(ticker.run())
    await finish(small_config(tmp_path / "simba.db", student=BlockingStudent(ticker), metric=blocking_metric))
    ticking.cancel()
    assert not ticker.was_held_up


class SlowStrategy:
    """Blocks while it checks whether it can be applied, and while it works in a thread."""

    name = "slow"

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker

    def applicable(self, context: StrategyContext) -> None:
        self._ticker.blocks_until_the_loop_has_ticked()

    async def apply(self, context: StrategyContext) -> Configuration:
        await context.in_thread(self._ticker.blocks_until_the_loop_has_ticked)
        return context.source.with_instructions("self", "Answer.")


async def test_the_loop_ticks_while_a_strategy_blocks(tmp_path: Path) -> None:
    ticker = Ticker()
    ticking = asyncio.create_task(ticker.run())
    await finish(small_config(tmp_path / "simba.db", strategies=[SlowStrategy(ticker)]))
    ticking.cancel()
    assert not ticker.was_held_up


class SlowToCopy(dspy.Module):
    """Its copies are made once the loop has ticked. It is itself in none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.ticker: Ticker | None = None

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.predict.acall(question=question)

    def __deepcopy__(self, memo: dict[int, Any]) -> SlowToCopy:
        if self.ticker is not None:
            self.ticker.blocks_until_the_loop_has_ticked()
        copied = SlowToCopy()
        copied.predict = self.predict.deepcopy()
        return copied


async def test_the_loop_ticks_while_a_start_copies_the_student(tmp_path: Path) -> None:
    ticker, student = Ticker(), SlowToCopy()
    ticking = asyncio.create_task(ticker.run())
    config = small_config(tmp_path / "simba.db", student=student)
    student.ticker = ticker
    async with Optimizer.start(config):
        ticking.cancel()
    assert not ticker.was_held_up


async def test_the_loop_ticks_while_the_programs_of_a_result_are_made(tmp_path: Path) -> None:
    ticker, student = Ticker(), SlowToCopy()
    ticking = asyncio.create_task(ticker.run())
    async with await Optimizer.start(small_config(tmp_path / "simba.db", student=student)) as optimizer:
        await optimizer.result(PATIENCE)
        student.ticker = ticker
        await optimizer.result(PATIENCE)
    ticking.cancel()
    assert not ticker.was_held_up


async def test_the_loop_ticks_while_an_evaluation_copies_the_program() -> None:
    ticker, program = Ticker(), SlowToCopy()
    ticking = asyncio.create_task(ticker.run())
    program.ticker = ticker
    await evaluate(program, questions(4), exact, lm=ScriptedLM(quiz_script))
    ticking.cancel()
    assert not ticker.was_held_up


class SlowPart:
    """An object that is slow to copy."""

    def __init__(self) -> None:
        self.ticker: Ticker | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> SlowPart:
        if self.ticker is not None:
            self.ticker.blocks_until_the_loop_has_ticked()
        return self


class Large(dspy.Module):
    """Its programs take long to make."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.others = [dspy.Predict("question -> answer") for _ in range(11)]
        self.judge = ScriptedLM(quiz_script)
        self.slow = SlowPart()

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.predict.acall(question=question)


async def test_the_loop_ticks_while_the_programs_of_a_large_student_are_made() -> None:
    ticker, student = Ticker(), Large()
    ticking = asyncio.create_task(ticker.run())
    space, copy = ConfigurationSpace.from_module(student), StudentCopy.of(student)
    student.slow.ticker = ticker
    executor = LocalExecutor(
        student=student,
        space=space,
        examples={"train": questions(2)},
        metric=exact,
        lms={"student": ScriptedLM(quiz_script)},
        governor=Governor(),
        copy=copy,
    )
    configuration = space.extract(student)
    await asyncio.gather(*(executor.run(RolloutTask(configuration, example)) for example in range(2)))
    ticking.cancel()
    assert not ticker.was_held_up


@pytest.mark.parametrize(("name", "kind"), [("adaptive", AdaptivePolicy), ("dspy", DspyPolicy)])
async def test_the_loop_ticks_while_the_policy_makes_its_first_state(
    name: str, kind: type[Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticker, initial_state = Ticker(), kind.initial_state
    ticking = asyncio.create_task(ticker.run())

    def slow(policy: Any) -> JSON:
        ticker.blocks_until_the_loop_has_ticked()
        return initial_state(policy)

    monkeypatch.setattr(kind, "initial_state", slow)
    await finish(small_config(tmp_path / "simba.db", policy=name))
    ticking.cancel()
    assert not ticker.was_held_up


async def test_the_loop_ticks_while_stored_configurations_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticker, from_json = Ticker(), Configuration.from_json
    ticking = asyncio.create_task(ticker.run())

    def slow(stored: JSON) -> Configuration:
        ticker.blocks_until_the_loop_has_ticked()
        return from_json(stored)

    monkeypatch.setattr(Configuration, "from_json", slow)
    await finish(small_config(tmp_path / "simba.db"))
    ticking.cancel()
    assert not ticker.was_held_up


async def test_no_task_is_left_after_stop(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    await finish(small_config(tmp_path / "simba.db"))
    assert asyncio.all_tasks() == before


async def test_no_thread_of_ours_is_left_after_stop(tmp_path: Path) -> None:
    with no_threads_left():
        await finish(small_config(tmp_path / "simba.db"))


class Unclosable(LocalExecutor):
    async def close(self) -> None:
        await super().close()
        raise OSError("the cluster is gone")


async def test_nothing_is_left_after_stop_although_the_executor_can_not_be_closed(tmp_path: Path) -> None:
    tasks = asyncio.all_tasks()
    config = small_config(tmp_path / "simba.db", executor=Unclosable, callbacks=[lambda event: None])
    with no_threads_left(), pytest.raises(OSError, match="the cluster is gone"):
        await finish(config)
    assert asyncio.all_tasks() == tasks


async def test_no_file_is_left_open_after_stop(tmp_path: Path) -> None:
    await finish(small_config(tmp_path / "simba.db"))
    assert files_open_in(tmp_path) == []


async def test_no_file_is_left_open_when_the_run_could_not_start(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    config = small_config(store, run_id="mine")
    async with await Optimizer.start(config):
        pass
    with pytest.raises(FingerprintMismatchError):
        await Optimizer.start(small_config(store, run_id="mine", seed=9))
    assert files_open_in(tmp_path) == []


def files_open_in(directory: Path) -> list[str]:
    """Return the files in a directory that this process has open, apart from those that are garbage."""
    gc.collect()
    paths: list[Path] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # Another thread has closed it since it was listed.
            paths.append(descriptor.readlink())
    return sorted(str(path) for path in paths if path.is_relative_to(directory))


async def test_there_are_no_more_workers_than_there_is_work_for(tmp_path: Path) -> None:
    async with await Optimizer.start(small_config(tmp_path / "s.db", max_concurrency=10**9)) as optimizer:
        await optimizer.result(PATIENCE)
        workers = [task for task in asyncio.all_tasks() if task.get_name().startswith("rollout worker")]
    assert 0 < len(workers) <= 100
