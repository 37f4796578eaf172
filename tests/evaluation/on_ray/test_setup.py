"""What `setup` does in a worker, and which errors make a worker unusable."""

from __future__ import annotations

import dspy
import pytest

from simba_actors.errors import ConfigError, NoLMError, SimbaError
from simba_actors.evaluation.on_ray.messages import Hello, SentError
from simba_actors.evaluation.on_ray.pool import check_usable, checked
from simba_actors.evaluation.on_ray.worker import check_student, made_by, versions
from simba_actors.programs import ConfigurationSpace


def a_metric() -> dict[str, object]:
    return {"metric": exact}


def exact(*_: object) -> bool:
    return True


def test_a_function_makes_parts() -> None:
    assert made_by(a_metric) == {"metric": exact}


def test_a_function_is_found_by_its_name() -> None:
    assert made_by(f"{__name__}:a_metric")["metric"] is exact


@pytest.mark.parametrize("setup", [None, lambda: None])
def test_a_worker_may_make_nothing(setup: object) -> None:
    assert made_by(setup) == {}  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("made", [{"judge": 1}, 3, "student"])
def test_what_is_no_part_of_a_run_is_refused(made: object) -> None:
    with pytest.raises(ConfigError, match="must be a dict with some of student, metric, lm"):
        made_by(lambda: made)  # pyright: ignore[reportArgumentType, reportReturnType]


def test_a_setup_that_fails_keeps_the_run_from_starting() -> None:
    with pytest.raises(ConfigError, match="failed in a worker: RuntimeError: no database here"):
        checked(SentError("RuntimeError", "RuntimeError: no database here", None, "…"))


def test_a_setup_that_makes_another_program_is_refused() -> None:
    space = ConfigurationSpace.from_module(dspy.Predict("question -> answer"))
    with pytest.raises(ConfigError, match=r"has the predictors \['predict'\], and lacks \['self'\] of the student"):
        check_student(dspy.ChainOfThought("question -> answer"), space)


def test_a_worker_with_the_same_code_is_used() -> None:
    hello = Hello(1, "node", versions(), ())
    assert checked(hello) is hello


def test_a_worker_with_other_code_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dspy 1\.0 there and .* here. Install the same ones"):
        checked(Hello(1, "node", {**versions(), "dspy": "1.0"}, ()))


def test_code_that_a_worker_lacks_is_asked_for() -> None:
    missing = SentError("ModuleNotFoundError", "ModuleNotFoundError: No module named 'mine'", None, "…")
    with pytest.raises(ConfigError, match=r"No module named 'mine'\. Its node needs the code"):
        check_usable(missing)


def test_an_error_of_this_package_is_raised_as_it_is() -> None:
    with pytest.raises(SimbaError) as caught:
        check_usable(SentError("NoLMError", "predictor 'answer' has no LM", None, ""))
    assert type(caught.value) is NoLMError
