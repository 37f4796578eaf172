"""Hosts that are set up in unusual ways: their loops, threads, clocks, directories and environments."""

from __future__ import annotations

import asyncio
import pickle
import shlex
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest

from simba_actors import SIMBA, Channel, LiveProgram, Optimizer, evaluate
from simba_actors.actors.errors import WrongLoopError
from simba_actors.errors import NoEventLoopError, RunningLoopError
from simba_actors.events import Event, TrajectorySampled
from simba_actors.observe import follow_events
from simba_actors.store.requests import send_request
from simba_actors.team.messages import COORDINATOR
from tests.hosts.test_limits import can_unshare
from tests.support.hosts import run_script
from tests.support.quiz import exact, questions, quiz_script
from tests.support.runs import events_of, findings, finish, reach, small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE, until

DAY = 86_400.0
STRANGE_NAME = "a b?mode=ro#c 100%25 é'\";$(x).db"


def in_threads(work: list[Any]) -> list[Any]:
    """Run coroutines on event loops in threads of their own, and return what they return, in any order."""
    results: list[Any] = []
    threads = [threading.Thread(target=lambda it=it: results.append(asyncio.run(it)), daemon=True) for it in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return results


# ── loops and threads ────────────────────────────────────────────────────────────────────────────────────────────────


def test_event_loops_in_several_threads_run_optimizations_in_one_store(tmp_path: Path) -> None:
    runs = [finish(small_config(tmp_path / "simba.db", run_id=f"run {n}")) for n in range(3)]
    assert len({result.score for result in in_threads(runs)}) == 1


def test_event_loops_in_several_threads_share_one_run(tmp_path: Path) -> None:
    async def work() -> float:
        async with Optimizer.start(small_config(tmp_path / "simba.db"), standby=True) as optimizer:
            return (await optimizer.result(PATIENCE)).score

    scores = in_threads([work() for _ in range(3)])
    assert len(scores) == 3
    assert len(set(scores)) == 1


def test_a_loop_in_debug_mode(tmp_path: Path) -> None:
    assert asyncio.run(finish(small_config(tmp_path / "simba.db")), debug=True).steps == 2


async def test_a_loop_that_starts_tasks_eagerly(tmp_path: Path) -> None:
    """Return a loop with eager tasks on Python 3.12 and later, and an ordinary one on earlier versions."""
    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))
    config = small_config(tmp_path / "simba.db", run_id="run")
    async with Optimizer.start(config) as owner, Optimizer.start(config, standby=True) as standby:
        assert (await owner.result(PATIENCE)).score == (await standby.result(PATIENCE)).score


async def test_a_start_that_is_cancelled_at_any_moment_leaves_the_run_free(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="run")
    for seconds in (0.0, 0.001, 0.003, 0.01, 0.03):
        starting = asyncio.ensure_future(_forever(Optimizer.start(config)))
        await asyncio.sleep(seconds)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    await finish(config)


async def _forever(block: Any) -> None:
    """Run an optimization as the lifespan of an application would."""
    async with block:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "call",
    [
        lambda config: Optimizer.start(config),
        lambda config: Optimizer.run(config),
        lambda config: Optimizer.estimate(config),
        lambda config: evaluate(config.student, config.trainset, config.metric, lm=config.lm),
        lambda config: Channel.open(config.store, "bot"),
        lambda config: anext(follow_events(config.store, "run")),
        lambda config: send_request(config.store, "run", "pause", reason="maintenance"),
    ],
    ids=["start", "run", "estimate", "evaluate", "channel", "follow_events", "send_request"],
)
def test_a_host_without_asyncio_is_told_what_is_missing(tmp_path: Path, call: Any) -> None:
    config = small_config(tmp_path / "simba.db")
    asyncio.run(finish(small_config(tmp_path / "simba.db", run_id="run")))
    with pytest.raises(NoEventLoopError, match=r"needs a running asyncio event loop.*asyncio\.run"):
        next(call(config).__await__())


def test_a_task_of_trio_is_told_that_compile_would_block_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lowlevel = SimpleNamespace(current_trio_token=object)
    monkeypatch.setitem(sys.modules, "trio", SimpleNamespace(lowlevel=lowlevel))
    with pytest.raises(RunningLoopError, match=r"trio\.to_thread\.run_sync"):
        SIMBA(metric=exact, bsize=2).compile(dspy.Predict("question -> answer"), trainset=questions(2))


async def test_a_start_is_a_coroutine_for_whatever_takes_one(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    def from_thread() -> Optimizer:
        return asyncio.run_coroutine_threadsafe(Optimizer.start(small_config(tmp_path / "a.db")), loop).result(PATIENCE)

    first = await asyncio.to_thread(from_thread)
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(Optimizer.start(small_config(tmp_path / "b.db")))
    for optimizer in (first, starting.result()):
        await optimizer.stop()


async def test_a_start_whose_task_is_cancelled_before_it_begins_starts_nothing(tmp_path: Path) -> None:
    task = asyncio.create_task(Optimizer.start(small_config(tmp_path / "simba.db")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(tmp_path) == []


def test_a_result_is_published_on_another_loop_after_the_runs_own_was_closed(tmp_path: Path) -> None:
    async def run() -> Optimizer:
        optimizer = await Optimizer.start(small_config(tmp_path / "simba.db"))
        await optimizer.result(PATIENCE)
        await optimizer.stop()
        return optimizer

    optimizer = asyncio.run(run())
    assert asyncio.run(optimizer.publish()).version == 1
    with pytest.raises(WrongLoopError, match="that one is closed, so start the run again"):
        asyncio.run(optimizer.result())


async def test_events_asked_for_in_a_thread_name_what_follows_them_there(tmp_path: Path) -> None:
    async with Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        with pytest.raises(WrongLoopError, match="follow_events"):
            await asyncio.to_thread(optimizer.events)


async def test_a_run_that_is_stopped_in_its_finals_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = small_config(tmp_path / "whole.db", run_id="run")
    await finish(whole)
    config = small_config(tmp_path / "simba.db", run_id="run", lm=ScriptedLM(quiz_script, latency=0.01))
    async with Optimizer.start(config) as optimizer:
        coordinator = optimizer._run.teammates.registry.whereis(COORDINATOR)
        assert coordinator is not None
        process: Any = coordinator.target
        await until(lambda: process.server.format_state().startswith("finals"), pause=0.001)
    await finish(config)
    assert await findings(config, "run") == await findings(whole, "run")


async def test_a_run_can_be_started_and_stopped_many_times_and_leaves_nothing_behind(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="run", lm=ScriptedLM(quiz_script, latency=3600.0))

    async def held() -> tuple[int, int]:
        async with Optimizer.start(config):
            pass
        return len(files_in(Path("/dev/fd"))), len(asyncio.all_tasks())

    first = await held()
    later = [await held() for _ in range(10)]
    # Threads of other tests may have a file open for a moment, but not at each of ten moments.
    assert min(files for files, _ in later) <= first[0]
    assert min(tasks for _, tasks in later) <= first[1]


# ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def clock_set_by(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    now = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now() + seconds)
        yield


@pytest.mark.parametrize("seconds", [DAY, -DAY])
async def test_a_clock_that_is_set_by_a_day_changes_nothing(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small_config(tmp_path / "whole.db", run_id="run")
    await finish(whole)
    config = small_config(tmp_path / "simba.db", run_id="run", lm=ScriptedLM(quiz_script, latency=0.005))
    async with Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        with clock_set_by(seconds, monkeypatch):
            await optimizer.result(PATIENCE)
        numbers = [event.seq for event in await events_of(optimizer, Event)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert await findings(config, "run") == await findings(whole, "run")


# ── files and directories ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_path_with_all_kinds_of_characters_behind_a_link(tmp_path: Path) -> None:
    place(tmp_path)
    store = tmp_path / "link" / STRANGE_NAME
    async with Optimizer.start(small_config(store)) as optimizer:
        await optimizer.result(PATIENCE)
        await optimizer.publish(0)
    student: Any = dspy.Predict("question -> answer")
    student.lm = ScriptedLM(quiz_script)
    live = LiveProgram(student, store=store)
    await live.acall(question="What is the colour of ball 1?")
    assert live.version == 1
    live.close()
    assert all(name.startswith(STRANGE_NAME) for name in files_in(tmp_path / "real"))


def place(directory: Path) -> None:
    (directory / "real").mkdir()
    (directory / "link").symlink_to(directory / "real")


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_relative_path_stays_what_it_was_when_the_process_changes_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path)
    monkeypatch.chdir(tmp_path)
    async with Optimizer.start(small_config(Path("simba.db"))) as optimizer:
        await reach(optimizer, TrajectorySampled)
        monkeypatch.chdir(tmp_path / "real")
        await optimizer.result(PATIENCE)
        await optimizer.publish()
    assert files_in(tmp_path / "real") == []


@pytest.mark.skipif(not can_unshare("--mount"), reason="needs mount namespaces")
def test_a_disk_that_is_full_for_a_while_pauses_the_run(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from simba_actors import Optimizer
from simba_actors.events import TrajectorySampled
from tests.support.quiz import exact, questions, quiz_script
from tests.support.runs import reach, small_config
from tests.support.scripted_lm import ScriptedLM

disk = Path(sys.argv[1])

async def main():
    lm = ScriptedLM(quiz_script, latency=0.02)
    async with Optimizer.start(small_config(disk / "simba.db", lm=lm)) as optimizer:
        await reach(optimizer, TrajectorySampled)
        with (disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass
        while (status := await optimizer.status()).status != "paused":
            await asyncio.sleep(0.01)
        print(status.reason)
        (disk / "filler").unlink()
        print((await optimizer.result()).steps)

asyncio.run(main())
"""
    mount = f'mount -t tmpfs -o size=4m tmpfs {tmp_path} && exec "$@"'
    printed = run_script(script, tmp_path, through=["unshare", "--mount", "sh", "-c", mount, "sh"])
    reason, steps = printed.splitlines()
    assert "make room on its disk" in reason
    assert steps == "2"


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_status_and_events_can_be_sent_to_another_process(tmp_path: Path) -> None:
    async with Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        await optimizer.result(PATIENCE)
        held = (await optimizer.status(), await events_of(optimizer, Event))
    assert pickle.loads(pickle.dumps(held)) == held


def test_a_process_without_a_home_a_temporary_directory_or_a_standard_output(tmp_path: Path) -> None:
    """Python's assertions are off, warnings are errors, and hashes have another seed."""
    script = """
import asyncio, sys
from pathlib import Path
import dspy
from simba_actors import Optimizer
from tests.support.runs import small_config

async def main():
    async with Optimizer.start(small_config(Path(sys.argv[1]), progress=True)) as optimizer:
        result = await optimizer.result()
    Path(sys.argv[2]).write_text(str(result.steps))

asyncio.run(main())
"""
    path, steps = tmp_path / "simba.db", tmp_path / "steps"
    python = [sys.executable, "-O", "-X", "dev", "-W", "error::ResourceWarning", "-c", script, str(path), str(steps)]
    environment = [
        "env",
        "-u",
        "HOME",
        "-u",
        "USER",
        "-u",
        "LOGNAME",
        "LANG=C",
        "TMPDIR=/nonexistent",
        "PYTHONHASHSEED=3",
        f"PYTHONPATH={Path.cwd()}",
    ]
    command = f"umask 077; exec {shlex.join([*environment, *python])} >&-"
    run_script(f"import os; os.execvp('sh', ['sh', '-c', {command!r}])")
    assert steps.read_text() == "2"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_python_that_removes_docstrings_is_warned_about(tmp_path: Path) -> None:
    script = """
import asyncio, logging, sys
from pathlib import Path
from tests.support.runs import finish, small_config

logging.basicConfig(stream=sys.stdout, format="%(message)s")
asyncio.run(finish(small_config(Path(sys.argv[1]), max_steps=1)))
"""
    printed = run_script(script, tmp_path / "simba.db", through=["env", "PYTHONOPTIMIZE=2"])
    assert printed.count("-OO (PYTHONOPTIMIZE=2)") == 1
