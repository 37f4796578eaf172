"""A crash at any commit of the store, before or after it, changes nothing of what a run finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from simba_actors.store import Store
from tests.support.crashing import InjectedCrashError
from tests.support.runs import findings, finish, small_config


@dataclass
class CrashingCommits:
    """Counts commits, and crashes at the `at`th, before or after it is safe."""

    at: int
    when: Literal["before", "after"]
    made: int = 0

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = Store.commit

        async def watched(store: Store, *args: Any) -> Any:
            self.made += 1
            here = self.made == self.at
            if here and self.when == "before":
                raise InjectedCrashError(f"before commit {self.at}")
            stamped = await commit(store, *args)
            if here:
                raise InjectedCrashError(f"after commit {self.at}")
            return stamped

        monkeypatch.setattr(Store, "commit", watched)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_commit_changes_nothing(
    when: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small_config(tmp_path / "whole.db", run_id="run")
    await finish(whole)
    expected = await findings(whole, "run")
    place = 0
    while True:
        place += 1
        crashes = CrashingCommits(place, when)
        config = small_config(tmp_path / f"{place}.db", run_id="run")
        with monkeypatch.context() as patch:
            crashes.watch(patch)
            await finish(config)
        assert await findings(config, "run") == expected, f"crashed {when} commit {place}"
        if crashes.made < place:
            break
    print(f"{place - 1} places {when} a commit")
    assert place > 10
