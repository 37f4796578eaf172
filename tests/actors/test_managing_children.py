"""Starting, terminating, restarting and deleting children from outside, and invalid specs."""

from __future__ import annotations

from typing import Any

import pytest

from simba_actors.actors import (
    ChildSpec,
    DynamicSupervisor,
    Supervisor,
    delete_child,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)
from simba_actors.actors.errors import (
    AlreadyPresentError,
    AlreadyStartedError,
    BadSpecError,
    ChildRunningError,
    MaxChildrenError,
    NotAChildError,
)
from tests.actors.conftest import Keep
from tests.actors.servers import Log, child, crash, ref_of, refs


async def test_a_child_that_runs_is_already_started(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    with pytest.raises(AlreadyStartedError, match="'a'") as error:
        await start_child(supervisor, child(log, "a"))
    assert error.value.ref == await ref_of(supervisor, "a")


async def test_a_child_that_does_not_run_is_already_present(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    await terminate_child(supervisor, "a")
    with pytest.raises(AlreadyPresentError, match="'a'"):
        await start_child(supervisor, child(log, "a"))


async def test_a_running_child_can_be_neither_restarted_nor_deleted(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    for attempt in (restart_child, delete_child):
        with pytest.raises(ChildRunningError, match="'a'"):
            await attempt(supervisor, "a")


async def test_a_stopped_child_can_be_terminated_again(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    for _ in range(2):
        await terminate_child(supervisor, "a")
    assert await refs(supervisor) == {"a": None}


async def test_a_terminated_child_can_be_restarted(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    await terminate_child(supervisor, "a")
    assert await restart_child(supervisor, "a") == await ref_of(supervisor, "a")


async def test_a_terminated_child_can_be_deleted(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    await terminate_child(supervisor, "a")
    await delete_child(supervisor, "a")
    assert await which_children(supervisor) == []


async def test_a_terminated_temporary_child_is_gone(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a", restart="temporary")]))
    await terminate_child(supervisor, "a")
    assert await which_children(supervisor) == []


async def test_a_child_may_be_named_by_its_ref(log: Log, keep: Keep) -> None:
    supervisor = keep(await DynamicSupervisor.start())
    first, second = [await start_child(supervisor, child(log, "session")) for _ in range(2)]
    await terminate_child(supervisor, first)
    assert await ref_of(supervisor, ("session", 2)) == second
    assert not first.alive


async def test_an_unknown_child_is_an_error(log: Log, keep: Keep) -> None:
    supervisor = keep(await Supervisor.start([child(log, "a")]))
    for attempt in (terminate_child, restart_child, delete_child):
        with pytest.raises(NotAChildError, match="'b'"):
            await attempt(supervisor, "b")


@pytest.mark.parametrize(
    "flags",
    [
        {"strategy": "simple_one_for_one"},
        {"max_restarts": -1},
        {"max_restarts": 1.5},
        {"max_restarts": True},
        {"max_seconds": 0},
        {"max_seconds": "5"},
        {"auto_shutdown": "sometimes"},
    ],
    ids=str,
)
async def test_a_bad_flag_is_refused_before_anything_starts(flags: dict[str, Any], log: Log) -> None:
    with pytest.raises(BadSpecError, match=next(iter(flags))):
        await Supervisor.start([child(log, "a")], **flags)
    assert log == []


@pytest.mark.parametrize(
    "spec",
    [
        {"restart": "always"},
        {"shutdown": -1},
        {"shutdown": "gently"},
        {"type": "manager"},
        {"significant": True},
        {"backoff": 3.0},
        {"start": None},
        {"id": []},
    ],
    ids=str,
)
def test_a_bad_spec_is_refused_before_anything_starts(spec: dict[str, Any]) -> None:
    async def start() -> Any:
        raise AssertionError("it was started")

    with pytest.raises(BadSpecError, match=next(iter(spec))):
        ChildSpec(**{**dict[str, Any](id="a", start=start), **spec})


async def test_duplicate_ids_are_refused_before_anything_starts(log: Log) -> None:
    with pytest.raises(BadSpecError, match="two children have the id 'a'"):
        await Supervisor.start([child(log, "a"), child(log, "b"), child(log, "a")])
    assert log == []


async def test_a_spec_of_another_type_is_refused_before_anything_starts(log: Log, keep: Keep) -> None:
    with pytest.raises(BadSpecError, match="not 'b'"):
        await Supervisor.start([child(log, "a"), "b"])
    assert log == []
    supervisor = keep(await Supervisor.start([]))
    with pytest.raises(BadSpecError, match="not 'b'"):
        await start_child(supervisor, "b")  # pyright: ignore[reportArgumentType] - as untyped code might


async def test_a_significant_child_without_auto_shutdown_is_refused(log: Log, keep: Keep) -> None:
    spec = child(log, "a", restart="transient", significant=True)
    with pytest.raises(BadSpecError, match="'a' is significant"):
        await Supervisor.start([spec])
    supervisor = keep(await DynamicSupervisor.start())
    with pytest.raises(BadSpecError, match="'a' is significant"):
        await start_child(supervisor, spec)
    assert log == []


async def test_children_that_are_restarting_count_for_max_children(log: Log, keep: Keep) -> None:
    supervisor = keep(await DynamicSupervisor.start(max_children=2))
    first = await start_child(supervisor, child(log, "a", backoff=lambda _: 3600.0))
    second = await start_child(supervisor, child(log, "a"))
    await crash(first)
    with pytest.raises(MaxChildrenError, match="maximum of 2 children"):
        await start_child(supervisor, child(log, "a"))
    await terminate_child(supervisor, second)
    await start_child(supervisor, child(log, "a"))


async def test_max_children_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(BadSpecError, match="max_children=-1"):
        await DynamicSupervisor.start(max_children=-1)


async def test_dynamic_children_are_restarted_each_on_its_own(log: Log, keep: Keep) -> None:
    supervisor = keep(await DynamicSupervisor.start())
    first, second = [await start_child(supervisor, child(log, "a")) for _ in range(2)]
    await crash(first)
    after = await refs(supervisor)
    assert after[("a", 1)] not in (None, first)
    assert after[("a", 2)] == second
