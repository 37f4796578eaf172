"""Estimating the calls, cost and time of a run from a few rollouts of its student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Budget, Estimate, Optimizer, OptimizerConfig
from simba_actors.config_checks import CHECKED_AT_ONCE
from simba_actors.errors import ConfigError
from simba_actors.hosting.policies import rollouts_expected
from tests.parity.scenarios import HintThenAnswer
from tests.support.quiz import questions, quiz_script
from tests.support.runs import asks_of, finish, small_config
from tests.support.scripted_lm import ScriptedLM


def config_for(store: Path, **changes: Any) -> OptimizerConfig:
    sizes: dict[str, Any] = {"bsize": 8, "max_steps": 4, "trainset": questions(16), "stop_when": None}
    return small_config(store, **{**sizes, **changes})


@pytest.mark.parametrize("policy", ["adaptive", "dspy"])
async def test_an_estimate_is_near_what_the_run_takes(policy: str, tmp_path: Path) -> None:
    config = config_for(tmp_path / "simba.db", policy=policy)
    estimate = await Optimizer.estimate(config)
    usage = (await finish(config)).usage
    assert estimate.usage.calls == pytest.approx(usage.calls, rel=0.4)
    assert estimate.usage.tokens == pytest.approx(usage.tokens, rel=0.6)


async def test_a_call_for_each_predictor_counts(tmp_path: Path) -> None:
    config = config_for(tmp_path / "simba.db", student=HintThenAnswer(), strategies=None, max_demos=0)
    estimate = await Optimizer.estimate(config)
    assert estimate.usage.calls >= 2 * estimate.rollouts


async def test_an_estimate_stays_within_the_budget(tmp_path: Path) -> None:
    config = config_for(tmp_path / "simba.db", policy="adaptive", budget=Budget(max_calls=100, max_seconds=0.001))
    estimate = await Optimizer.estimate(config)
    assert estimate.usage.calls <= 100
    assert estimate.seconds <= 0.001


async def test_no_estimate_is_made_where_the_run_would_be_refused_for_an_example(tmp_path: Path) -> None:
    lm = ScriptedLM(quiz_script)
    config = config_for(
        tmp_path / "simba.db", lm=lm, trainset=[*questions(CHECKED_AT_ONCE), dspy.Example(question="?")]
    )
    with pytest.raises(
        ConfigError, match=rf"trainset\[{CHECKED_AT_ONCE}\] does not say which of its fields are inputs"
    ):
        await Optimizer.estimate(config)
    assert lm.asks == []


async def test_nothing_is_stored_and_few_calls_are_made(tmp_path: Path) -> None:
    config = config_for(tmp_path / "simba.db", lm=(lm := ScriptedLM(quiz_script)))
    estimate = await Optimizer.estimate(config, rollouts=3)
    assert len(asks_of(lm)) == estimate.sample.usage.calls == 3
    assert not (tmp_path / "simba.db").exists()


async def test_an_estimate_says_in_one_line_what_the_run_would_take(tmp_path: Path) -> None:
    estimate = await Optimizer.estimate(config_for(tmp_path / "simba.db", budget=Budget(max_calls=100)))
    assert isinstance(estimate, Estimate)
    assert str(estimate).startswith(f"at most {estimate.rollouts:,} rollouts: 100 calls, ")


@pytest.mark.parametrize(("policy", "more"), [("adaptive", 0), ("dspy", 7 * 500)])
def test_examples_that_the_search_does_not_use_make_no_run_longer(policy: str, more: int, tmp_path: Path) -> None:
    most, beyond = (
        config_for(tmp_path / "simba.db", policy=policy, num_candidates=6, trainset=questions(count))
        for count in (2_000, 2_500)
    )
    assert rollouts_expected(beyond) == rollouts_expected(most) + more


async def test_no_rollouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rollouts=0"):
        await Optimizer.estimate(config_for(tmp_path / "simba.db"), rollouts=0)
