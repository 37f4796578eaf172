"""Whatever crashes in a run, its end is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simba_actors import Optimizer
from simba_actors.actors import GenServer
from simba_actors.team.tree import TEAM
from tests.support.crashing import Injector, inject
from tests.support.runs import findings, finish, small_config


async def undisturbed(tmp_path: Path) -> dict[str, Any]:
    config = small_config(tmp_path / "undisturbed.db")
    return await findings(config, (await finish(config)).run_id)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("actor", TEAM.values(), ids=TEAM)
async def test_a_crash_at_any_message_changes_nothing(
    actor: type[GenServer[Any]], when: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await undisturbed(tmp_path)
    place = 0
    while True:
        place += 1
        with monkeypatch.context() as patch:
            injector = inject(patch, actor, Injector(at=place, when=when))
            config = small_config(tmp_path / f"{place}.db")
            result = await finish(config)
        assert await findings(config, result.run_id) == expected, f"crashed {when} message {place}"
        if injector.handled < place:
            break
    print(f"{actor.__name__}: {place - 1} places {when} a message")
    assert place > 1


@pytest.mark.parametrize("name", TEAM)
async def test_a_killed_actor_is_restarted(name: str, tmp_path: Path) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        async for _ in optimizer.events():
            ref = optimizer._setup.registry.whereis(name)
            assert ref is not None
            ref.kill()
            break
        await optimizer.result()
        assert (await optimizer.status()).restarts[name] == 1
