"""Names for processes."""

from __future__ import annotations

from typing import Any

import pytest

from simba_actors.actors import Ref, Registry, Supervisor, which_children
from simba_actors.actors.children import ChildSpec
from simba_actors.actors.errors import AlreadyRegisteredError, NoProcessError
from tests.actors.conftest import Keep
from tests.actors.servers import Add, Worker, crash


async def kill(ref: Ref) -> None:
    ref.kill()
    await ref.wait()


async def test_a_key_is_registered_once(keep: Keep) -> None:
    registry = Registry()
    first, second = keep(await Worker.start()), keep(await Worker.start())
    registry.register("key", first)
    with pytest.raises(AlreadyRegisteredError, match="'key' is already registered by Worker") as error:
        registry.register("key", second)
    assert error.value.ref == first


@pytest.mark.parametrize("end", [crash, Ref.stop, kill], ids=["crash", "stop", "kill"])
async def test_a_key_is_free_when_its_owner_is_dead(end: Any, keep: Keep) -> None:
    registry = Registry()
    await end(await Worker.start(name="key", registry=registry))
    assert registry.whereis("key") is None
    keep(await Worker.start(name="key", registry=registry))


async def test_a_process_may_have_many_keys_and_loses_them_together() -> None:
    registry = Registry()
    server = await Worker.start()
    for key in ("one", 2, ("three",)):
        registry.register(key, server)
    assert registry.keys() == ["one", 2, ("three",)]
    await server.stop()
    assert registry.keys() == []


async def test_only_its_owner_frees_a_key(keep: Keep) -> None:
    registry = Registry()
    owner, other = keep(await Worker.start()), keep(await Worker.start())
    registry.register("key", owner)
    registry.unregister("key", other)
    assert registry.whereis("key") == owner
    registry.unregister("key", owner)
    assert registry.whereis("key") is None


async def test_a_dead_process_gets_no_key() -> None:
    registry, server = Registry(), await Worker.start()
    await server.stop()
    with pytest.raises(NoProcessError):
        registry.register("key", server)
    assert registry.keys() == []


async def test_a_name_finds_its_server_across_restarts(keep: Keep) -> None:
    registry = Registry()
    spec = ChildSpec("worker", lambda: Worker.start_link(name="worker", registry=registry))
    supervisor = keep(await Supervisor.start([spec]))
    worker = registry.via("worker")
    first = registry.whereis("worker")
    assert first is not None
    await worker.call(Add(5))
    await crash(first)
    assert len(await which_children(supervisor)) == 1
    assert await worker.call(Add()) == 1
