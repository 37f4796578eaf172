"""A run that crashes at any message of any actor, or at any commit of its store, ends as if it had not crashed.

The schedule of each run is drawn from a seed, and its clock is virtual: a failure can be reproduced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Budget, OptimizerConfig
from simba_actors.actors import GenServer
from simba_actors.actors.supervisor import RestartIntensity
from simba_actors.hosting.assembly import TEAM
from simba_actors.search.adaptive import policy as adaptive_policy
from simba_actors.store.store import Store
from simba_actors.team.messages import POOL_KEEPER
from tests.support.crashing import Injector, When, inject
from tests.support.quiz import questions, quiz_script
from tests.support.runs import findings, finish, small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.seeded_loop import run_seeded, use_one_thread

CRASHES: tuple[tuple[When, int], ...] = (("before", 1), ("after", 2))
"""When to crash, and the seed of the schedule."""

ROOMY = "adaptive, roomy"

CRASHES_A_RUN = {"dspy": 12, "adaptive": 3, ROOMY: 10}
"""Maximum number of crashes of one run. The budgets of the adaptive policy have room for the calls of so many."""

FAR_APART = 8
"""Minimum number of messages or commits from one crash of a run to the next, so that it makes progress in between."""

Findings = dict[str, Any]
Watch = Callable[[pytest.MonkeyPatch], object]
Wrap = Callable[[pytest.MonkeyPatch, Injector], object]


def dspy_config(store: Path) -> OptimizerConfig:
    sizes: dict[str, Any] = {"trainset": questions(4), "bsize": 2}
    return small_config(store, run_id="run", publish="best", **sizes, **_lms())


def adaptive_config(store: Path, max_calls: int = 54) -> OptimizerConfig:
    # This leaves room for calls that are made twice, which count against the budget like all others.
    sizes: dict[str, Any] = {"trainset": questions(4), "bsize": 4, "max_steps": 3}
    return small_config(store, run_id="run", policy="adaptive", budget=Budget(max_calls=max_calls), **sizes, **_lms())


def roomy_config(store: Path) -> OptimizerConfig:
    """Return the config of a run that takes longer and has room for more crashes, for the actor with most messages."""
    return adaptive_config(store, max_calls=110)


def wrap_commits(patch: pytest.MonkeyPatch, injector: Injector) -> None:
    patch.setattr(Store, "commit", injector.wrap(Store.commit))


def wrap_messages_of(actor: type[GenServer[Any]]) -> Wrap:
    return lambda patch, injector: inject(patch, actor, injector)


COMMIT = "commit"

PLACES: dict[str, Wrap] = {**{name: wrap_messages_of(actor) for name, actor in TEAM.items()}, COMMIT: wrap_commits}
"""Functions that patch the package with an injector, by the name of the actor whose messages it counts, or "commit"."""

POLICIES = ("dspy", "adaptive")

CONFIGS = {"dspy": dspy_config, "adaptive": adaptive_config, ROOMY: roomy_config}


def _lms() -> dict[str, ScriptedLM]:
    """Return LMs whose replies arrive in another order than the requests."""
    return {
        name: ScriptedLM(quiz_script, latency=lambda ask: 2 * ask.chance("latency")) for name in ("lm", "prompt_model")
    }


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Findings]:
    """Return a function that makes a run with a schedule drawn from a seed. `watch` may patch the package for it.

    The adaptive policy has two steps open at a time, as otherwise only longer runs have. Supervisors allow more than
    three restarts within five seconds.
    """
    use_one_thread(monkeypatch)
    monkeypatch.setattr(adaptive_policy, "steps_at_once", lambda *_: 2)
    monkeypatch.setattr(RestartIntensity, "allows", lambda *_: True)
    made = iter(range(1_000_000))

    def run(name: str, seed: int, watch: Watch = lambda _: None) -> Findings:
        config = CONFIGS[name](tmp_path / f"{next(made)}.db")

        async def main() -> Findings:
            await finish(config)
            return await findings(config, "run")

        with monkeypatch.context() as patch:
            watch(patch)
            return run_seeded(seed, main())

    return run


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Findings]:
    """Findings of an undisturbed run by config, added by the first test that needs them."""
    return {}


@pytest.fixture(scope="module")
def numbers_of_places() -> dict[tuple[str, int], dict[str, int]]:
    """Numbers of places of an undisturbed run by config and seed, added by the first test that needs them."""
    return {}


@pytest.fixture
def crash_everywhere(
    found: Callable[..., Findings],
    undisturbed: dict[str, Findings],
    numbers_of_places: dict[tuple[str, int], dict[str, int]],
) -> Callable[..., int]:
    """Return a function that crashes runs at each place, compares their findings, and returns the number of places.

    One run crashes at several places, which are far apart.
    """

    def count_places(config: str, seed: int) -> dict[str, int]:
        injectors = {name: Injector() for name in PLACES}

        def watch(patch: pytest.MonkeyPatch) -> None:
            for name, injector in injectors.items():
                PLACES[name](patch, injector)

        found(config, seed, watch)
        return {name: injector.handled for name, injector in injectors.items()}

    def crash(config: str, when: When, seed: int, where: str) -> int:
        if config not in undisturbed:
            undisturbed[config] = found(config, 0)
        if (config, seed) not in numbers_of_places:
            numbers_of_places[config, seed] = count_places(config, seed)

        def run(at: range) -> set[int]:
            injector = Injector(at, when, f"place of {where}")
            assert found(config, seed, lambda patch: PLACES[where](patch, injector)) == undisturbed[config], (
                injector.crashed
            )
            return set(injector.crashed)

        count = numbers_of_places[config, seed][where]
        crashes = CRASHES_A_RUN[config]
        apart = max(math.ceil(count / crashes), FAR_APART)
        crashed: set[int] = set()
        for first in range(1, min(apart, count) + 1):
            crashed |= run(range(first, first + crashes * apart, apart))
        for place in {*range(1, count + 1)} - crashed:  # Runs that crashed earlier may have ended before it.
            crashed |= run(range(place, place + 1))
        assert crashed >= {*range(1, count + 1)}
        print(f"{config}, seed {seed}: {len(crashed)} places {when} those of {where}")
        return count

    return crash


@pytest.mark.parametrize("policy", POLICIES)
def test_the_schedule_changes_nothing(policy: str, found: Callable[..., Findings]) -> None:
    expected = found(policy, 0)
    assert [seed for seed in range(1, 11) if found(policy, seed) != expected] == []


@pytest.mark.parametrize(("when", "seed"), CRASHES)
@pytest.mark.parametrize("actor", TEAM)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_crash_at_any_message_changes_nothing(
    policy: str, actor: str, when: When, seed: int, crash_everywhere: Callable[..., int]
) -> None:
    config = ROOMY if (policy, actor) == ("adaptive", POOL_KEEPER) else policy
    assert crash_everywhere(config, when, seed, actor) > 0


@pytest.mark.parametrize(("when", "seed"), CRASHES)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_crash_at_any_commit_changes_nothing(
    policy: str, when: When, seed: int, crash_everywhere: Callable[..., int]
) -> None:
    assert crash_everywhere(policy, when, seed, COMMIT) > 10
