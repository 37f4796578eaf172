"""Parameters follow clear evidence, and otherwise stay as they are."""

from __future__ import annotations

import random
from collections.abc import Callable

from simba_actors.search.adaptive.adaptation import Adaptation, Parameters, adapt
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.effects import ScoreRange
from simba_actors.search.rollout import ModelSpec, RolloutKey

USUAL = Parameters(temperature=1.0, batch_size=10, rollouts_per_candidate=16)
STEPS, EXAMPLES = 3, 25

Bucket = Callable[[int], tuple[float | None, float | None]]
"""The scores of the plain and the hot rollout of a bucket; None for an outright failure."""


def sampled(bucket: Bucket, *, lm: str = "student", temperature: float = 1.0) -> Evidence:
    known = Evidence()
    for n in range(STEPS * EXAMPLES):
        for place, score in enumerate(bucket(n)):
            model = ModelSpec(lm, rollout_id=n, temperature=temperature) if place else ModelSpec()
            key = RolloutKey(n // EXAMPLES, "sample", 2 * (n % EXAMPLES) + place)
            known.add([Score(key, 0, n % EXAMPLES, score or 0.0, model, failed=score is None)])
    return known


def adapted(known: Evidence, now: Parameters = USUAL, failures_needed: int = 2) -> dict[str, Adaptation]:
    parameters, changes = adapt(now, USUAL, known, STEPS - 1, ScoreRange(), failures_needed)
    for change in changes:
        assert getattr(parameters, change.parameter) == change.after
    return {change.parameter: change for change in changes}


def coin(n: int) -> float:
    return float(random.Random(n).random() < 0.5)


def ordinary(n: int) -> tuple[float, float]:
    return coin(n), coin(n + 1_000)


def test_nothing_changes_if_all_is_as_usual() -> None:
    assert adapted(sampled(ordinary)) == {}


def test_nothing_changes_without_evidence() -> None:
    assert adapted(Evidence()) == {}


def test_sampling_gets_cooler_where_most_hot_trajectories_fail() -> None:
    change = adapted(sampled(lambda n: (coin(n), None if n % 4 else 1.0)))["temperature"]
    assert (change.before, change.after) == (1.0, 0.75)
    assert "trajectories sampled at 1 failed" in change.reason


def test_sampling_does_not_get_cooler_where_the_program_fails_without_heat_too() -> None:
    assert "temperature" not in adapted(sampled(lambda n: (None, None)))


def test_sampling_gets_no_cooler_than_makes_sense() -> None:
    coolest = Parameters(0.3, 10, 16)
    assert "temperature" not in adapted(sampled(lambda n: (coin(n), None), temperature=0.3), coolest)


def test_sampling_gets_hotter_again_where_trajectories_hardly_differ() -> None:
    cool = Parameters(0.75, 10, 16)
    change = adapted(sampled(lambda n: (0.5, 0.5), temperature=0.75), cool)["temperature"]
    assert change.after == 1.0
    assert change.reason == "trajectories score differently in only 0 of 75 buckets that are not solved"


def test_sampling_gets_no_hotter_than_every_provider_accepts() -> None:
    assert "temperature" not in adapted(sampled(lambda n: (0.5, 0.5)))


def test_samples_from_before_a_change_do_not_change_it_again() -> None:
    assert "temperature" not in adapted(sampled(lambda n: (coin(n), None)), Parameters(0.75, 10, 16))


def test_a_batch_grows_when_failures_get_rare() -> None:
    change = adapted(sampled(lambda n: (1.0, float(n % 25 > 0))))["batch_size"]
    assert change.before < change.after <= 2 * change.before
    assert change.reason == "3 of 75 buckets have a failure, and rules need 2 failures"


def test_a_batch_shrinks_to_its_usual_size_when_failures_are_common() -> None:
    assert adapted(sampled(ordinary), Parameters(1.0, 20, 16))["batch_size"].after == 10


def test_a_quiet_metric_takes_fewer_rollouts_per_candidate() -> None:
    change = adapted(sampled(lambda n: (coin(n) * 0.9, coin(n) * 0.9 + 0.1)))["rollouts_per_candidate"]
    assert change.after == round(0.6 * 16)
    assert "noise of a score is at most 0.18" in change.reason


def test_a_few_lucky_pairs_do_not_make_a_metric_quiet() -> None:
    assert "rollouts_per_candidate" not in adapted(sampled(lambda n: (coin(n), coin(n) if n % 3 else coin(n + 1_000))))


def test_scores_of_another_lm_change_nothing() -> None:
    known = sampled(lambda n: (None, None), lm="teacher")
    assert adapted(Evidence(score for score in known.of(0) if score.model.lm == "teacher")) == {}
