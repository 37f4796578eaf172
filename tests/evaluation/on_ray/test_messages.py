"""Errors cross from workers to the optimizer's process with their class, their message and their traceback."""

from __future__ import annotations

import pytest

from simba_actors.errors import BudgetReachedError, InfrastructureError, LMUnavailableError, MetricError, SimbaError
from simba_actors.evaluation.on_ray.messages import CONFIGURATIONS_KEPT, remember, restored, sent
from simba_actors.lm.secrets import Secrets


def arrived(error: Exception) -> Exception:
    return restored(sent(error, Secrets()))


@pytest.mark.parametrize("kind", [InfrastructureError, LMUnavailableError, MetricError, SimbaError])
def test_an_error_of_this_package_keeps_its_class_and_message(kind: type[SimbaError]) -> None:
    error = arrived(kind("it failed"))
    assert (type(error), str(error)) == (kind, "it failed")


def test_a_reached_cap_keeps_its_name() -> None:
    error = arrived(BudgetReachedError("enough", "max_calls"))
    assert isinstance(error, BudgetReachedError)
    assert error.cap == "max_calls"


def test_another_error_keeps_its_name() -> None:
    error = arrived(KeyError("colour"))
    assert (type(error), str(error)) == (RuntimeError, "KeyError: 'colour'")


def test_the_traceback_of_a_metric_is_shown() -> None:
    def metric() -> float:
        return 1 / 0

    error = MetricError("the metric raised")
    try:
        metric()
    except ZeroDivisionError as cause:
        error.__cause__ = cause
    assert "return 1 / 0" in str(arrived(error).__cause__)


def test_secrets_do_not_travel() -> None:
    error = sent(ValueError("refused key sk-abcdefghijkl"), Secrets())
    assert "sk-abcdefghijkl" not in repr(error)


def test_both_sides_keep_the_same_configurations() -> None:
    known: dict[str, None] = {}
    for n in range(CONFIGURATIONS_KEPT + 2):
        remember(known, str(n), None)
    assert list(known) == [str(n) for n in range(2, CONFIGURATIONS_KEPT + 2)]


def test_an_infrastructure_failure_names_its_endpoint() -> None:
    error = LMUnavailableError("down")
    error.endpoint = "openai/gpt-5"
    again = arrived(error)
    assert isinstance(again, LMUnavailableError)
    assert again.endpoint == "openai/gpt-5"
