"""Children that fail to start or to restart."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from simba_actors.actors import (
    ChildSpec,
    Ignore,
    InitReturn,
    Ref,
    Supervisor,
    delete_child,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)
from simba_actors.actors.errors import BadReturnError, ChildRestartingError, StartFailedError, StartIgnoredError
from tests.actors.conftest import Keep, Reports
from tests.actors.servers import Log, Worker, child, crash, ref_of, refs


class UnwillingError(Exception):
    """The error with which a test makes a start fail."""


@dataclass
class Unwilling:
    """Starts a worker, except at the attempts in `refused`, which count from 1."""

    log: Log
    label: str
    refused: range | tuple[int, ...] = ()
    tries: int = field(default=0, init=False)

    async def start(self) -> Ref:
        self.tries += 1
        await asyncio.sleep(0)
        if self.tries in self.refused:
            raise UnwillingError(f"try {self.tries}")
        return await Worker.start_link(self.log, self.label, name=self.label)


async def test_a_restart_that_fails_counts_as_a_restart(log: Log, reports: Reports) -> None:
    unwilling = Unwilling(log, "a", refused=range(2, 100))
    supervisor = await Supervisor.start([ChildSpec("a", unwilling.start)], max_restarts=5)
    await crash(await ref_of(supervisor, "a"))
    await supervisor.wait()
    assert unwilling.tries == 1 + 5
    assert reports()[1] == "Supervisor could not restart child 'a': UnwillingError: try 2"


async def test_a_restart_that_fails_is_tried_again(log: Log, keep: Keep) -> None:
    unwilling = Unwilling(log, "a", refused=(2, 3))
    supervisor = keep(await Supervisor.start([ChildSpec("a", unwilling.start)]))
    first = await ref_of(supervisor, "a")
    await crash(first)
    while (ref := (await refs(supervisor))["a"]) is None or ref == first:
        pass
    assert unwilling.tries == 4


async def restarting(log: Log) -> Ref:
    """Return a supervisor whose child "a" waits an hour for its restart."""
    supervisor = await Supervisor.start([child(log, "a", backoff=lambda _: 3600.0)])
    await crash(await ref_of(supervisor, "a"))
    assert [(info.ref, info.restarting) for info in await which_children(supervisor)] == [(None, True)]
    return supervisor


async def test_a_restarting_child_can_be_neither_restarted_nor_deleted(log: Log, keep: Keep) -> None:
    supervisor = keep(await restarting(log))
    for attempt in (restart_child, delete_child):
        with pytest.raises(ChildRestartingError, match="'a'"):
            await attempt(supervisor, "a")


async def test_a_restarting_child_can_be_terminated(log: Log, keep: Keep) -> None:
    supervisor = keep(await restarting(log))
    await terminate_child(supervisor, "a")
    await asyncio.sleep(4000)
    assert await refs(supervisor) == {"a": None}
    await delete_child(supervisor, "a")


async def test_a_shutdown_does_not_wait_for_a_restarting_child(log: Log) -> None:
    supervisor = await restarting(log)
    await supervisor.stop()
    assert asyncio.get_running_loop().time() == 0


async def test_a_shutdown_comes_between_restarts_that_fail(log: Log) -> None:
    unwilling = Unwilling(log, "a", refused=range(2, 1_000_000))
    supervisor = await Supervisor.start([ChildSpec("a", unwilling.start)], max_restarts=1_000_000)
    await crash(await ref_of(supervisor, "a"))
    await supervisor.stop()
    assert unwilling.tries < 100


async def life_after_a_crash_of_a(strategy: Any, log: Log, keep: Keep) -> Log:
    """Return the log of a, b and c when the first restart of b fails."""
    unwilling = Unwilling(log, "b", refused=(2,))
    children = [child(log, "a"), ChildSpec("b", unwilling.start), child(log, "c")]
    supervisor = keep(await Supervisor.start(children, strategy=strategy))
    log.clear()
    await crash(await ref_of(supervisor, "a"))
    while unwilling.tries < 3:
        await which_children(supervisor)
    assert all((await refs(supervisor)).values())
    return log[log.index("start a") :]


async def test_one_for_all_shuts_the_earlier_ones_down_and_tries_all_again(log: Log, keep: Keep) -> None:
    assert await life_after_a_crash_of_a("one_for_all", log, keep) == [
        "start a",
        "stop a",
        "start a",
        "start b",
        "start c",
    ]


async def test_rest_for_one_keeps_the_earlier_ones_and_tries_the_rest_again(log: Log, keep: Keep) -> None:
    assert await life_after_a_crash_of_a("rest_for_one", log, keep) == ["start a", "start b", "start c"]


async def test_a_child_that_fails_at_first_stops_those_before_it_in_reverse(log: Log, reports: Reports) -> None:
    unwilling = Unwilling(log, "c", refused=(1,))
    children = [child(log, "a"), child(log, "b"), ChildSpec("c", unwilling.start), child(log, "d")]
    with pytest.raises(StartFailedError, match="child 'c' did not start: UnwillingError: try 1") as error:
        await Supervisor.start(children)
    assert isinstance(error.value.reason, UnwillingError)
    assert log == ["start a", "start b", "stop b", "stop a"]
    assert reports() == []


async def test_a_start_function_that_returns_no_ref_fails_the_start() -> None:
    async def start() -> Any:
        return 3

    with pytest.raises(StartFailedError, match="the start function of child 'a' must return a Ref, not 3") as error:
        await Supervisor.start([ChildSpec("a", start)])
    assert isinstance(error.value.reason, BadReturnError)


async def test_a_started_child_that_fails_is_not_added(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([]))
    with pytest.raises(StartFailedError):
        await start_child(supervisor, ChildSpec("a", Unwilling(log, "a", refused=(1,)).start))
    assert await refs(supervisor) == {}


class Ignoring(Worker):
    """Declines to run."""

    async def init(self) -> InitReturn:
        return Ignore()


async def test_a_child_whose_init_says_ignore_is_kept_without_a_ref(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a", Ignoring), child(log, "b")]))
    assert (await refs(supervisor))["a"] is None
    assert await ref_of(supervisor, "b")


async def test_a_temporary_child_whose_init_says_ignore_is_dropped(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a", Ignoring, restart="temporary")]))
    assert await refs(supervisor) == {}


@pytest.mark.parametrize(("restart", "kept"), [("permanent", {"a": None}), ("temporary", {})])
async def test_a_child_that_is_started_later_and_ignores_raises(
    restart: str, kept: dict[str, None], log: Log, keep: Keep
) -> None:
    supervisor = keep(await Supervisor.start([]))
    with pytest.raises(StartIgnoredError):
        await start_child(supervisor, child(log, "a", Ignoring, restart=restart))
    assert await refs(supervisor) == kept
