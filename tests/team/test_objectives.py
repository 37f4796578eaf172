"""Runs whose metric gives several scores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Optimizer, OptimizerConfig, OptimizerResult, Pareto, Weighted
from simba_actors.errors import ConfigError, FingerprintMismatchError, MetricError
from simba_actors.search.objectives import Objectives
from simba_actors.store import Reader
from tests.support.quiz import exact, questions
from tests.support.runs import asks_of, findings, finish, small_config
from tests.team.test_adaptive_runs import adaptive_config

WEIGHTED = Weighted({"right": 0.75, "short": 0.25})
FRONT = Pareto(["right", "short"])
CONFIGS: dict[str, Callable[..., OptimizerConfig]] = {"dspy": small_config, "adaptive": adaptive_config}


def right_and_short(example: Any, prediction: Any) -> dspy.Prediction:
    return dspy.Prediction(right=exact(example, prediction), short=1 / len(prediction.answer), note="as it is")


def config_for(policy: str, store: Path, objectives: Objectives, **changes: Any) -> OptimizerConfig:
    settings: dict[str, Any] = {"metric": right_and_short, "objectives": objectives, "run_id": "run", **changes}
    return CONFIGS[policy](store, **settings)


@pytest.fixture(scope="module", params=CONFIGS)
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[OptimizerConfig, OptimizerResult]:
    """A finished run of each policy with the objectives `FRONT`, and its result."""
    config = config_for(request.param, tmp_path_factory.mktemp("finished") / "simba.db", FRONT)
    return config, asyncio.run(finish(config))


async def test_the_score_is_the_weighted_mean_and_the_named_ones_are_kept(tmp_path: Path) -> None:
    config = config_for("dspy", tmp_path / "simba.db", WEIGHTED)
    await finish(config)
    async with await Reader.open(config.store) as reader:
        scored = [record.trajectory for record in await reader.rollouts("run", 0, "evaluate") if record.trajectory]
        by_name = [await reader.objective_scores("run", name) for name in WEIGHTED.names]
        combined = await reader.scores("run")
    named = [trajectory for trajectory in scored if trajectory.error is None]
    assert {type(trajectory.feedback["right"]) for trajectory in named} == {bool}
    assert all(trajectory.feedback["note"] == "as it is" for trajectory in named)
    means = [0.75 * right.score + 0.25 * short.score for right, short in zip(*by_name, strict=True)]
    assert means == pytest.approx([score.score for score in combined])


@pytest.mark.parametrize("policy", CONFIGS)
async def test_every_finalist_has_its_named_scores(policy: str, tmp_path: Path) -> None:
    result = await finish(config_for(policy, tmp_path / "simba.db", WEIGHTED))
    for entry in result.candidate_programs:
        assert WEIGHTED.combine(entry["scores"]) == pytest.approx(entry["score"], abs=0.05)


def test_the_candidates_are_the_front_and_the_winners_score_is_the_mean_of_its_scores(
    finished: tuple[OptimizerConfig, OptimizerResult],
) -> None:
    _, result = finished
    scores = [entry["scores"] for entry in result.candidate_programs]
    for one in scores:
        assert not any(
            other["right"] >= one["right"] and other["short"] >= one["short"] and other != one for other in scores
        )
    assert result.score == pytest.approx(FRONT.combine(scores[0]))


async def test_a_valset_decides_the_named_scores(tmp_path: Path) -> None:
    config = config_for("adaptive", tmp_path / "simba.db", FRONT, valset=questions(12, start=500))
    result = await finish(config)
    winner: Any = result.program
    async with await Reader.open(config.store) as reader:
        right = [score for score in await reader.objective_scores("run", "right") if score.split == "val"]
    own = [score.score for score in right if score.program == winner.simba_idx]
    assert result.candidate_programs[0]["scores"]["right"] == pytest.approx(sum(own) / len(own))


async def test_a_run_that_was_interrupted_finds_the_same_front(
    finished: tuple[OptimizerConfig, OptimizerResult], tmp_path: Path
) -> None:
    whole, _ = finished
    cut = config_for(whole.policy, tmp_path / "cut.db", FRONT)
    async with await Optimizer.start(cut):
        pass
    await finish(cut)
    assert await findings(cut, "run") == await findings(whole, "run")


def without_short(example: Any, prediction: Any) -> dspy.Prediction:
    return dspy.Prediction(right=True, brevity=1.0)


def not_finite(example: Any, prediction: Any) -> dspy.Prediction:
    return dspy.Prediction(right=True, short=float("nan"))


BAD = {
    "one_is_missing": (
        without_short,
        r"returned no short for trainset\[0\]: the objectives are right, short, and it has",
    ),
    "one_is_not_finite": (not_finite, r"returned nan for trainset\[0\], as short: a score must be finite"),
    "there_is_only_a_number": (
        exact,
        r"returned True \(bool\) for trainset\[0\]: with these objectives it must return a dspy",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_metric_that_does_not_fit_is_refused_before_any_call(case: str, tmp_path: Path) -> None:
    metric, message = BAD[case]
    config = config_for("dspy", tmp_path / "simba.db", FRONT, metric=metric)
    with pytest.raises(MetricError, match=message):
        await Optimizer.start(config)
    assert asks_of(config.lm) == []


def test_objectives_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be Weighted"):
        small_config(tmp_path / "simba.db", objectives={"right": 1.0})


async def test_a_run_with_other_objectives_is_another_run(tmp_path: Path) -> None:
    await finish(config_for("dspy", tmp_path / "simba.db", WEIGHTED, max_steps=1))
    with pytest.raises(FingerprintMismatchError, match="objectives"):
        await Optimizer.start(config_for("dspy", tmp_path / "simba.db", FRONT, max_steps=1))
