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
from tests.support.crashing import Injector, When, inject
from tests.support.quiz import questions, quiz_script
from tests.support.runs import findings, finish, small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.seeded_loop import run_seeded, use_one_thread

CRASHES: tuple[tuple[When, int], ...] = (("before", 1), ("after", 2))
"""When to crash, and the seed of the schedule."""

CRASHES_A_RUN = {"dspy": 8, "adaptive": 3}
"""Maximum number of crashes of one run. The budget of the adaptive policy has room for the calls of three."""

FAR_APART = 8
"""Minimum number of messages or commits from one crash of a run to the next, so that it makes progress in between."""

Findings = dict[str, Any]
Watch = Callable[[pytest.MonkeyPatch], None]


def dspy_config(store: Path) -> OptimizerConfig:
    sizes: dict[str, Any] = {"trainset": questions(4), "bsize": 2}
    return small_config(store, run_id="run", publish="best", **sizes, **_lms())


def adaptive_config(store: Path) -> OptimizerConfig:
    # This leaves room for calls that are made twice, which count against the budget like all others.
    sizes: dict[str, Any] = {"trainset": questions(4), "bsize": 4, "max_steps": 3, "budget": Budget(max_calls=54)}
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

    The adaptive policy has two steps open at a time, as otherwise only longer runs have. Supervisors allow more than
    three restarts within five seconds.
    """
    use_one_thread(monkeypatch)
    monkeypatch.setattr(adaptive_policy, "steps_at_once", lambda *_: 2)
    monkeypatch.setattr(RestartIntensity, "allows", lambda *_: True)
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


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Findings]:
    """Findings of an undisturbed run by policy, added by the first test that needs them."""
    return {}


@pytest.fixture
def crash_everywhere(found: Callable[..., Findings], undisturbed: dict[str, Findings]) -> Callable[..., int]:
    """Return a function that crashes runs at each place, compares their findings, and returns the number of places.

    `wrap` patches the package with an injector. One run crashes at several places, which are far apart.
    """

    def crash(policy: str, when: When, seed: int, what: str, wrap: Callable[..., None]) -> int:
        if policy not in undisturbed:
            undisturbed[policy] = found(policy, 0)

        def run(at: range) -> Injector:
            injector = Injector(at, when, what)
            assert found(policy, seed, lambda patch: wrap(patch, injector)) == undisturbed[policy], injector.crashed
            return injector

        count = run(range(0)).handled
        crashes = CRASHES_A_RUN[policy]
        apart = max(math.ceil(count / crashes), FAR_APART)
        crashed: set[int] = set()
        for first in range(1, min(apart, count) + 1):
            crashed.update(run(range(first, first + crashes * apart, apart)).crashed)
        for place in {*range(1, count + 1)} - crashed:  # Runs that crashed earlier may have ended before it.
            crashed.update(run(range(place, place + 1)).crashed)
        assert crashed >= {*range(1, count + 1)}
        print(f"{policy}, seed {seed}: {len(crashed)} places {when} a {what}")
        return count

    return crash


@pytest.mark.parametrize("policy", CONFIGS)
def test_the_schedule_changes_nothing(policy: str, found: Callable[..., Findings]) -> None:
    expected = found(policy, 0)
    assert [seed for seed in range(1, 11) if found(policy, seed) != expected] == []


@pytest.mark.parametrize(("when", "seed"), CRASHES)
@pytest.mark.parametrize("actor", TEAM.values(), ids=TEAM)
@pytest.mark.parametrize("policy", CONFIGS)
def test_a_crash_at_any_message_changes_nothing(
    policy: str, actor: type[GenServer[Any]], when: When, seed: int, crash_everywhere: Callable[..., int]
) -> None:
    assert crash_everywhere(policy, when, seed, "message", lambda patch, injector: inject(patch, actor, injector)) > 0


@pytest.mark.parametrize(("when", "seed"), CRASHES)
@pytest.mark.parametrize("policy", CONFIGS)
def test_a_crash_at_any_commit_changes_nothing(
    policy: str, when: When, seed: int, crash_everywhere: Callable[..., int]
) -> None:
    def wrap(patch: pytest.MonkeyPatch, injector: Injector) -> None:
        patch.setattr(Store, "commit", injector.wrap(Store.commit))

    assert crash_everywhere(policy, when, seed, "commit", wrap) > 10
