"""A host that cancels finds a tree up or down, wherever it cancels: a life of a tree is cut at each of its steps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from simba_actors.actors import (
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
from tests.actors.servers import Add, Worker, child, crash, ref_of
from tests.support.virtual_clock import VirtualClockLoop

AnyTask: TypeAlias = "asyncio.Task[Any]"
ROOT = "root"


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class Deliberate(Worker):
    """Takes a few turns of the loop to start and to stop."""

    async def init(self) -> InitReturn:
        await turns(3)
        return await super().init()

    async def terminate(self, reason: ExitReason) -> None:
        await turns(3)
        await super().terminate(reason)


class Trapping(Deliberate):
    trap_exit = True


async def double(number: int) -> int:
    await turns(2)
    return 2 * number


async def life(registry: Registry) -> None:
    """All that happens to a tree: start, work, a crash, a child stopped and started, a stream, the stop."""
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
    """The tasks of a process and of everything below it."""
    tasks: set[AnyTask | None] = {ref.target.task}
    if ref.name.startswith("Supervisor"):
        for info in await which_children(ref):
            if info.ref is not None:
                assert info.ref.alive
                tasks |= await tasks_of(info.ref)
    return tasks


async def check_up_or_down(registry: Registry) -> None:
    """Fails if a process runs that the root does not lead to, or a child of its is dead."""
    await asyncio.sleep(60)
    root = registry.whereis(ROOT)
    ours = asyncio.all_tasks() - {asyncio.current_task()}
    assert ours == (set() if root is None else await tasks_of(root))
    if root is not None:
        await root.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def cut(step: int, victims: Callable[[AnyTask, Registry], list[AnyTask]]) -> bool:
    """Lives a life and cancels the victims at a step. Whether there was such a step."""
    registry = Registry()
    host = asyncio.create_task(life(registry))
    await turns(step)
    if host.done():
        await host
        return False
    for victim in victims(host, registry):
        victim.cancel()
    await asyncio.wait([host], timeout=60)
    assert host.cancelled() or victims is not the_host
    await check_up_or_down(registry)
    return True


def the_host(host: AnyTask, registry: Registry) -> list[AnyTask]:
    return [host]


def the_root(host: AnyTask, registry: Registry) -> list[AnyTask]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "Supervisor 'root'"]


def a_worker(host: AnyTask, registry: Registry) -> list[AnyTask]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "Deliberate 'a'"]


def everything(host: AnyTask, registry: Registry) -> list[AnyTask]:
    """As the end of `asyncio.run` does."""
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@pytest.mark.parametrize("victims", [the_host, the_root, a_worker, everything])
def test_a_tree_cancelled_at_any_step_is_up_or_down(
    victims: Callable[[AnyTask, Registry], list[AnyTask]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "simba_actors.actors")  # Its hundreds of crash reports are not what is tested.
    step = 0
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        while runner.run(cut(step, victims)):
            step += 1
    assert step > 50
