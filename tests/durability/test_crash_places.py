"""A run that crashes at any message of any actor, or at any commit of its store, ends as if it had not crashed.

The schedule of each run is drawn from a seed, and its clock is virtual: a failure can be reproduced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Budget, OptimizerConfig
from simba_actors.actors import GenServer
from simba_actors.assembly import TEAM
from simba_actors.search.adaptive import policy as adaptive_policy
from simba_actors.store import Store
from tests.support.crashing import InjectedCrashError, Injector, When, inject
from tests.support.quiz import questions, quiz_script
from tests.support.runs import findings, finish, small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.seeded_loop import run_seeded, use_one_thread

CRASHES: tuple[tuple[When, int], ...] = (("before", 1), ("after", 2))
"""When to crash, and the seed of the schedule."""

Findings = dict[str, Any]
Watch = Callable[[pytest.MonkeyPatch], None]


@dataclass
class Commits:
    """Counts the store's commits, and crashes at commit number `at`, before or after it is safe."""

    at: int
    when: When
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


def dspy_config(store: Path) -> OptimizerConfig:
    sizes: dict[str, Any] = {"trainset": questions(4), "bsize": 2}
    return small_config(store, run_id="run", publish="best", **sizes, **_lms())


def adaptive_config(store: Path) -> OptimizerConfig:
    # This leaves room for calls that are made twice, which count against the budget like all others.
    sizes: dict[str, Any] = {"trainset": questions(4), "bsize": 4, "max_steps": 3, "budget": Budget(max_calls=46)}
    return small_config(store, run_id="run", policy="adaptive", **sizes, **_lms())


CONFIGS = {"dspy": dspy_config, "adaptive": adaptive_config}


def _lms() -> dict[str, ScriptedLM]:
    """Return LMs whose replies arrive in another order than the requests."""
    return {
        name: ScriptedLM(quiz_script, latency=lambda ask: 2 * ask.chance("latency")) for name in ("lm", "prompt_model")
    }


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Findings]:
    """Return a function that makes a run with a schedule drawn from a seed. `watch` may patch the package for it.

    The adaptive policy has two steps open at a time, as otherwise only longer runs have.
    """
    use_one_thread(monkeypatch)
    monkeypatch.setattr(adaptive_policy, "steps_at_once", lambda *_: 2)
    made = iter(range(1_000_000))

    def run(policy: str, seed: int, watch: Watch = lambda _: None) -> Findings:
        config = CONFIGS[policy](tmp_path / f"{next(made)}.db")

        async def main() -> Findings:
            await finish(config)
            return await findings(config, "run")

        with monkeypatch.context() as patch:
            watch(patch)
            return run_seeded(seed, main())

    return run


@pytest.mark.parametrize("policy", CONFIGS)
def test_the_schedule_changes_nothing(policy: str, found: Callable[..., Findings]) -> None:
    expected = found(policy, 0)
    assert [seed for seed in range(1, 20) if found(policy, seed) != expected] == []


@pytest.mark.parametrize(("when", "seed"), CRASHES)
@pytest.mark.parametrize("actor", TEAM.values(), ids=TEAM)
@pytest.mark.parametrize("policy", CONFIGS)
def test_a_crash_at_any_message_changes_nothing(
    policy: str, actor: type[GenServer[Any]], when: When, seed: int, found: Callable[..., Findings]
) -> None:
    expected, place = found(policy, 0), 0
    while True:
        place += 1
        injector = Injector(at=place, when=when)

        def watch(patch: pytest.MonkeyPatch, injector: Injector = injector) -> None:
            inject(patch, actor, injector)

        assert found(policy, seed, watch) == expected, f"crashed {when} message {place}"
        if injector.handled < place:
            break
    print(f"{policy}, seed {seed}, {actor.__name__}: {place - 1} places {when} a message")
    assert place > 1


@pytest.mark.parametrize(("when", "seed"), CRASHES)
@pytest.mark.parametrize("policy", CONFIGS)
def test_a_crash_at_any_commit_changes_nothing(
    policy: str, when: When, seed: int, found: Callable[..., Findings]
) -> None:
    expected, place = found(policy, 0), 0
    while True:
        place += 1
        commits = Commits(place, when)
        assert found(policy, seed, commits.watch) == expected, f"crashed {when} commit {place}"
        if commits.made < place:
            break
    print(f"{policy}, seed {seed}: {place - 1} places {when} a commit")
    assert place > 10
