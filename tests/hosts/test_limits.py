"""Hosts with limits: no more threads, volumes that can't be written, containers with pids of their own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.hosts import run_script, run_script_in_fork
from tests.support.live import publish
from tests.support.waiting import PATIENCE, limited

PRELUDE = """
import asyncio, os, resource, subprocess, sys, threading
from pathlib import Path
import dspy
from simba_actors import Channel, LiveProgram
from simba_actors.errors import StoreReadOnlyError
from simba_actors.programs import Configuration
from tests.support.live import answer, publish, sayer

store = Path(sys.argv[1])
"""


def can_unshare(*options: str) -> bool:
    if shutil.which("unshare") is None:
        return False
    unshared = subprocess.run(["unshare", *options, "true"], check=False, capture_output=True, timeout=PATIENCE)
    return unshared.returncode == 0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    asyncio.run(publish(tmp_path / "simba.db", "one"))
    return tmp_path / "simba.db"


def test_a_service_that_can_start_no_thread_serves_what_is_published() -> None:
    script = """
class Blocking(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = sayer()
    def forward(self, question):
        return self.ask(question=question)

async def publish_to_student(word, expected):
    async with await Channel.open(store, "default") as channel:
        await channel.publish(Configuration.of({"ask": (f"Say {word}.", [])}), expected=expected, reason="?")

asyncio.run(publish_to_student("one", 0))
live = LiveProgram(Blocking(), store=store, metric=lambda example, prediction: 1.0)
asyncio.run(publish_to_student("two", 1))
sayer()(question="DSPy imports its parts when they are first used.")
if os.getuid() == 0:
    store.parent.chmod(0o777)
    for file in store.parent.iterdir():
        file.chmod(0o666)
    os.setuid(65534)  # The limit does not hold for root.
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print(asyncio.run(answer(live)), live(question="?").answer)
else:
    print("threads can be started")
"""
    # Nobody but root may look into pytest's own folders.
    with tempfile.TemporaryDirectory() as directory:
        printed = run_script(PRELUDE + script, Path(directory) / "simba.db").strip()
    if printed.endswith("threads can be started"):
        pytest.skip("this system does not limit threads by RLIMIT_NPROC")
    assert printed == "two two"


def test_many_live_programs_leave_the_process_room_for_other_files(store: Path) -> None:
    script = """
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
programs = [LiveProgram(sayer(), store=store) for _ in range(130)]
print({live(question="?").answer for live in programs}, {live.state.name for live in programs})

async def ask_all():
    return {prediction.answer for prediction in await asyncio.gather(*[live.acall(question="?") for live in programs])}

asyncio.run(publish(store, "two"))
print(asyncio.run(ask_all()))
publisher = "import asyncio, sys, pathlib; from tests.support.live import publish; "
publisher += "asyncio.run(publish(pathlib.Path(sys.argv[1]), 'three'))"
subprocess.run([sys.executable, "-c", publisher, str(store)], check=True)
while asyncio.run(ask_all()) != {"three"}:
    pass
programs[0].close()
print(programs[-1](question="?").answer, programs[0](question="?").answer)
"""
    printed = run_script_in_fork(PRELUDE + script, store)
    assert printed.splitlines() == ["{'one'} {'READY'}", "{'two'}", "three three"]


@pytest.mark.skipif(not can_unshare("--mount"), reason="needs mount namespaces")
def test_a_store_on_a_read_only_volume_is_served_and_followed(store: Path) -> None:
    mounted = store.parent / "mounted"
    mounted.mkdir()
    volume = store.parent / "volume"
    volume.mkdir()
    store.rename(volume / store.name)
    assert sorted(path.name for path in volume.iterdir()) == [store.name], "the store is at rest"
    script = """
live = LiveProgram(sayer(), store=store / "simba.db")
print(asyncio.run(answer(live)), live(question="?").answer, flush=True)
try:
    (store / "probe").touch()
except OSError as error:
    print(error.strerror)
publisher = "import asyncio, sys, pathlib; from tests.support.live import publish; "
publisher += "asyncio.run(publish(pathlib.Path(sys.argv[1]), 'two'))"
subprocess.run([sys.executable, "-c", publisher, sys.argv[2]], check=True)
while live(question="?").answer != "two":
    pass
print(live.version)
"""
    mount = f'mount --bind {volume} {mounted} && mount -o remount,ro,bind {mounted} && exec "$@"'
    through = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    printed = run_script(PRELUDE + script, mounted, volume / store.name, through=through)
    assert printed.splitlines() == ["one one", os.strerror(30), "2"]


@pytest.mark.skipif(not can_unshare("--mount"), reason="needs mount namespaces")
def test_a_channel_on_a_read_only_volume_is_read_and_not_written(store: Path) -> None:
    script = """
async def look():
    async with await Channel.open(store, "default") as channel:
        print(len(await channel.history()), await channel.examples())
        try:
            await channel.publish(Configuration.of({"ask": ("Say two.", [])}), expected=1, reason="?")
        except StoreReadOnlyError as error:
            print(error)

asyncio.run(look())
"""
    folder = store.parent
    mount = f'mount --bind {folder} {folder} && mount -o remount,ro,bind {folder} && exec "$@"'
    printed = run_script(PRELUDE + script, store, through=["unshare", "--mount", "sh", "-c", mount, "sh"])
    known, refused = printed.splitlines()
    assert known == "1 []"
    assert refused.startswith(f"{store} can't be written")


@pytest.mark.skipif(not can_unshare("--pid", "--fork", "--mount-proc"), reason="needs pid namespaces")
def test_two_containers_with_one_host_name_share_a_channel(store: Path) -> None:
    script = """
live = LiveProgram(sayer(), store=store)
print(os.getpid() < 10, asyncio.run(answer(live)))
asyncio.run(publish(store, sys.argv[2]))
print(asyncio.run(answer(live)))
"""
    container = ["unshare", "--pid", "--fork", "--mount-proc"]
    first = run_script(PRELUDE + script, store, "two", through=container)
    second = run_script(PRELUDE + script, store, "three", through=container)
    assert (first.split(), second.split()) == (["True", "one", "two"], ["True", "two", "three"])


@pytest.mark.skipif(not can_unshare("--pid", "--fork", "--mount-proc"), reason="needs pid namespaces")
def test_two_containers_with_one_host_name_do_not_rob_each_other_of_a_run(tmp_path: Path) -> None:
    imports = """
from simba_actors import Optimizer
from simba_actors.errors import RunOwnedError
from tests.support.runs import small_config
"""
    owning = """
async def own():
    async with await Optimizer.start(small_config(store, run_id="run")) as optimizer:
        await optimizer.pause()
        print("owned", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print("still owned" if (await optimizer.status()).status != "failed" else "robbed")

asyncio.run(own())
"""
    robbing = """
async def rob():
    try:
        await Optimizer.start(small_config(store, run_id="run"))
    except RunOwnedError:
        print("refused")

asyncio.run(rob())
"""
    container = ["unshare", "--pid", "--fork", "--mount-proc"]
    command = [*container, sys.executable, "-c", PRELUDE + imports + owning, str(tmp_path / "simba.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            with limited(owner):
                assert owner.stdout.readline() == "owned\n"
            robber = run_script(PRELUDE + imports + robbing, tmp_path / "simba.db", through=container)
            output, _ = owner.communicate("", timeout=PATIENCE)
        finally:
            owner.kill()
    assert (robber.strip(), output.strip(), owner.returncode) == ("refused", "still owned", 0)
