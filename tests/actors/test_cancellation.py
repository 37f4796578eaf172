"""A supervision tree that is cancelled or killed at any step of its life is either up or down afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

from simba_actors.actors import (
    KILLED,
    ActorError,
    ChildSpec,
    ExitReason,
    InitReturn,
    Ref,
    Registry,
    Supervisor,
    TaskSupervisor,
    async_stream,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)
from simba_actors.actors.process import Process
from tests.actors.servers import Add, Worker, child, crash, ref_of
from tests.support.virtual_clock import VirtualClockLoop

AnyTask: TypeAlias = "asyncio.Task[Any]"
ROOT = "root"


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class Deliberate(Worker):
    """Takes an iteration of the loop to start, and one to stop."""

    async def init(self) -> InitReturn:
        await turns(1)
        return await super().init()

    async def terminate(self, reason: ExitReason) -> None:
        await turns(1)
        await super().terminate(reason)


class Trapping(Deliberate):
    trap_exit = True


async def double(number: int) -> int:
    await turns(2)
    return 2 * number


async def live(registry: Registry) -> None:
    """Lead a tree through its life: start, work, a crash, a child stopped and started, a stream, the stop."""
    sub = ChildSpec(
        "sub", lambda: Supervisor.start_link([child([], "leaf", Deliberate)]), type="supervisor", restart="transient"
    )
    children = [
        child([], "a", Deliberate),
        sub,
        child([], "b", Trapping),
        ChildSpec("tasks", TaskSupervisor.start_link),
    ]
    root = await Supervisor.start(children, strategy="one_for_all", max_restarts=9, name=ROOT, registry=registry)
    await (await ref_of(root, "b")).call(Add())
    await crash(await ref_of(root, "a"))
    await terminate_child(root, "b")
    await restart_child(root, "b")
    await start_child(root, child([], "c", Deliberate))
    async for _ in async_stream(await ref_of(root, "tasks"), double, range(3), max_concurrency=2):
        pass
    await root.stop()


async def tasks_of(ref: Ref) -> set[AnyTask | None]:
    """Return the tasks of a process and of all processes below it."""
    tasks: set[AnyTask | None] = {ref.target.task}
    if ref.name.startswith("Supervisor"):
        for info in await which_children(ref):
            if info.ref is not None:
                assert info.ref.alive
                tasks |= await tasks_of(info.ref)
    return tasks


async def check_up_or_down(registry: Registry) -> None:
    """Fail if a process runs outside the root's tree, or a child in the tree is dead."""
    await asyncio.sleep(60)
    root = registry.whereis(ROOT)
    ours = asyncio.all_tasks() - {asyncio.current_task()}
    assert ours == (set() if root is None else await tasks_of(root))
    if root is not None:
        await root.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@dataclass
class Life:
    """A life that is under way: its host task, and all processes started in it."""

    host: AnyTask
    processes: list[Process]

    def named(self, name: str) -> list[Process]:
        return [process for process in self.processes if process.name == name]

    def cancel(self, name: str) -> None:
        for process in self.named(name):
            if process.task is not None:
                process.task.cancel()

    def kill(self, name: str) -> None:
        for process in self.named(name):
            process.exit(KILLED)


Strike: TypeAlias = Callable[[Life], object]


def cancel_everything(life: Life) -> None:
    """Cancel all tasks, as the end of `asyncio.run` does."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


STRIKES: dict[str, Strike] = {
    "cancel the host": lambda life: life.host.cancel(),
    "cancel the root": lambda life: life.cancel("Supervisor 'root'"),
    "cancel a worker": lambda life: life.cancel("Deliberate 'a'"),
    "cancel everything": cancel_everything,
    "kill the root": lambda life: life.kill("Supervisor 'root'"),
    "kill a supervisor": lambda life: life.kill("Supervisor"),
}


async def cut(step: int, strike: Strike, started: list[Process]) -> bool:
    """Cancel or kill a life at a step. Return whether it has that many steps."""
    registry = Registry()
    host = asyncio.create_task(live(registry))
    await turns(step)
    if host.done():
        await host
        return False
    strike(Life(host, started))
    await asyncio.wait([host], timeout=60)
    assert host.done()
    assert host.cancelled() or host.cancelling() == 0
    assert host.cancelled() or isinstance(host.exception(), ActorError | None)
    await check_up_or_down(registry)
    return True


@pytest.mark.parametrize("strike", STRIKES.values(), ids=STRIKES)
def test_a_tree_struck_at_any_step_is_up_or_down(
    strike: Strike, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "simba_actors.actors")  # Hundreds of crash reports are expected.
    started: list[Process] = []

    def spawn(process: Process, spawn: Callable[[Process], None] = Process.spawn) -> None:
        started.append(process)
        spawn(process)

    monkeypatch.setattr(Process, "spawn", spawn)
    step = 0
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        while runner.run(cut(step, strike, started)):
            started.clear()
            step += 1
    assert step > 50
