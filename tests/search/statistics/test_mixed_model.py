"""The mixed model finds planted effects, and keeps effects with few trials near zero."""

from __future__ import annotations

import numpy as np
import pytest

from simba_actors.search.statistics.mixed_model import Observations, fit, sigmoid

EXAMPLES = 60


def planted(effects: list[float], rollouts: int, seed: int = 0) -> Observations:
    """Rollouts of random subsets of parts with these effects, on examples that differ in ease."""
    draws = np.random.default_rng(seed)
    ease = draws.normal(0, 1, EXAMPLES)
    design = draws.integers(0, 2, (rollouts, len(effects))).astype(np.float32)
    example = draws.integers(0, EXAMPLES, rollouts)
    score = (draws.random(rollouts) < sigmoid(design @ np.array(effects) + ease[example])).astype(np.float64)
    order = np.argsort(example, kind="stable")
    return Observations(design[order], example[order], score[order], np.zeros(rollouts))


def test_planted_effects_are_found() -> None:
    posterior = fit(planted([1.0, -0.7, 0.0], 6_000), np.full(3, 1.0), EXAMPLES, ease=1.0)
    assert posterior.effects == pytest.approx([1.0, -0.7, 0.0], abs=0.2)


def test_the_ease_of_examples_is_found() -> None:
    observations = planted([0.5], 6_000)
    posterior = fit(observations, np.full(1, 1.0), EXAMPLES, ease=1.0)
    true = np.random.default_rng(0).normal(0, 1, EXAMPLES)
    assert np.corrcoef(true, posterior.ease)[0, 1] > 0.9


def test_deviations_shrink_with_evidence() -> None:
    few, many = (fit(planted([0.5], n), np.full(1, 1.0), EXAMPLES, 1.0).deviations()[0] for n in (50, 5_000))
    assert many < few / 3 < 1.0


def test_without_evidence_the_posterior_is_the_prior() -> None:
    nothing = Observations(np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    posterior = fit(nothing, np.array([0.3, 2.0]), EXAMPLES, 1.0)
    assert posterior.effects == pytest.approx([0, 0])
    assert posterior.deviations() == pytest.approx([0.3, 2.0])


def test_draws_scatter_as_the_deviations_say() -> None:
    posterior = fit(planted([0.5, 0.2], 300), np.full(2, 1.0), EXAMPLES, 1.0)
    draws = np.random.default_rng(1)
    drawn = np.array([posterior.draw(draws) for _ in range(4_000)])
    assert drawn.std(axis=0) == pytest.approx(posterior.deviations(), rel=0.1)


def test_the_marginal_likelihood_is_that_of_the_scores_over_all_effects() -> None:
    score = np.array([1.0, 1.0, 1.0, 0.0, 1.0])
    observations = Observations(np.ones((5, 1), dtype=np.float32), np.arange(5), score, np.zeros(5))
    effects = np.linspace(-12, 12, 4_001)
    likelihood = sigmoid(effects) ** 4 * (1 - sigmoid(effects))
    prior = np.exp(-((effects / 1.5) ** 2) / 2) / (1.5 * np.sqrt(2 * np.pi))
    whole = float((likelihood * prior).sum() * (effects[1] - effects[0]))
    assert fit(observations, np.array([1.5]), EXAMPLES, ease=1e-3).log_marginal_likelihood == pytest.approx(
        np.log(whole), abs=0.05
    )


def test_effects_that_are_not_there_make_the_scores_less_likely() -> None:
    observations = planted([1.0, 0.0], 2_000)
    one = fit(observations.without_last(1), np.ones(1), EXAMPLES, 1.0)
    assert fit(observations, np.ones(2), EXAMPLES, 1.0).log_marginal_likelihood < one.log_marginal_likelihood


def test_effects_that_are_there_make_the_scores_more_likely() -> None:
    observations = planted([1.0, 1.0], 2_000)
    one = fit(observations.without_last(1), np.ones(1), EXAMPLES, 1.0)
    assert fit(observations, np.ones(2), EXAMPLES, 1.0).log_marginal_likelihood > one.log_marginal_likelihood


@pytest.mark.parametrize("start", [[0.0, 0.0, 0.0], [1.0, -0.7, 0.0], [30.0, -30.0, 30.0]])
def test_a_fit_finds_the_same_mode_from_any_start(start: list[float]) -> None:
    observations = planted([1.0, -0.7, 0.0], 600)
    known = fit(observations, np.full(3, 1.0), EXAMPLES, ease=1.0)
    found = fit(observations, np.full(3, 1.0), EXAMPLES, ease=1.0, start=np.array(start))
    assert found.effects == pytest.approx(known.effects, abs=0.01)
    assert found.log_marginal_likelihood == pytest.approx(known.log_marginal_likelihood, abs=0.5)


def test_what_is_known_of_the_log_odds_is_not_credited_to_the_effects() -> None:
    known = planted([1.0], 6_000)
    explained = Observations(known.design, known.example, known.score, known.design[:, 0].astype(np.float64))
    assert fit(explained, np.full(1, 1.0), EXAMPLES, ease=1.0).effects == pytest.approx([0.0], abs=0.2)
