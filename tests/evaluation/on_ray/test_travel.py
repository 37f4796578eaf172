"""What travels to workers, and what is refused because it can't."""

from __future__ import annotations

import logging
import threading
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback

from simba_actors import RayExecutor
from simba_actors.errors import ConfigError
from simba_actors.evaluation.on_ray.executor import RESERVED_OPTIONS
from simba_actors.evaluation.on_ray.travel import Parts, check_travels, packed, settings_to_send, unpacked
from simba_actors.programs import ConfigurationSpace
from tests.support.quiz import exact, questions, quiz_script
from tests.support.scripted_lm import ScriptedLM


class Clerk(dspy.Module):
    """A student with a client object, as many students have."""

    def __init__(self, client: Any = None) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")
        self.client = client

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.answer.acall(question=question)


class Client:
    def __init__(self) -> None:
        self.pool = {"lock": threading.Lock()}


class Watching(BaseCallback):
    def __init__(self) -> None:
        self.lock = threading.Lock()


def parts(**changes: Any) -> Parts:
    student = changes.get("student") or Clerk()
    settings: dict[str, Any] = {
        "student": student,
        "metric": exact,
        "lms": {"student": ScriptedLM(quiz_script)},
        "space": ConfigurationSpace.from_module(student),
        "examples": {"train": questions(3), "val": []},
        "objectives": None,
        "rollout_timeout": 300.0,
        "on_metric_error": "stop",
        "settings": {},
        **changes,
    }
    return Parts(**settings)


def refusal(name: str, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        packed(parts(**changes))
    assert name in str(caught.value)
    return str(caught.value)


def test_an_attribute_that_cannot_travel_is_named() -> None:
    said = refusal("student.client", student=Clerk(threading.Lock()))
    assert said.startswith("student.client: cannot pickle '_thread.lock' object: so it can't travel to Ray's workers.")
    assert "setup=" in said


def test_the_innermost_attribute_that_cannot_travel_is_named() -> None:
    refusal("student.client.pool['lock']: cannot pickle", student=Clerk(Client()))


def test_a_variable_of_the_metric_that_cannot_travel_is_named() -> None:
    lock = threading.Lock()

    def guarded(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        with lock:
            return exact(example, prediction)

    refusal("metric, its variable lock: cannot pickle", metric=guarded)


def test_an_example_that_cannot_travel_is_named() -> None:
    rows = [*questions(2), dspy.Example(question=threading.Lock(), answer="red").with_inputs("question")]
    refusal("trainset[2]", examples={"train": rows, "val": []})


def test_an_lm_that_cannot_travel_is_named() -> None:
    lm: Any = ScriptedLM(quiz_script)
    lm.session = threading.Lock()
    refusal("teacher.session", lms={"student": ScriptedLM(quiz_script), "teacher": lm})


def test_a_function_for_setup_that_cannot_travel_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(ConfigError, match="setup, its variable lock: cannot pickle"):
        check_travels("setup", lambda: lock)


def test_what_setup_makes_does_not_travel() -> None:
    made = parts(student=Clerk(threading.Lock()), lms={"student": ScriptedLM(quiz_script), "teacher": None})
    arrived = unpacked(packed(made.without(("student", "lm"))))
    assert arrived.student is None
    assert set(arrived.lms) == {"teacher"}


def test_what_setup_makes_takes_the_place_of_what_stayed() -> None:
    student, lm = Clerk(), ScriptedLM(quiz_script)
    whole = parts().without(("student", "lm")).completed({"student": student, "lm": lm})
    assert whole.student is student
    assert whole.lms["student"] is lm
    assert whole.metric is exact


def test_the_history_of_an_lm_stays() -> None:
    lm = ScriptedLM(quiz_script)
    lm.history.append({"prompt": "…"})
    arrived = unpacked(packed(parts(lms={"student": lm})))
    assert arrived.lms["student"].history == []
    assert len(lm.history) == 1


def test_an_lm_that_several_parts_share_stays_one() -> None:
    lm = ScriptedLM(quiz_script)
    arrived: Any = unpacked(packed(parts(student=Clerk(lm), lms={"student": lm})))
    assert arrived.student.client is arrived.lms["student"]


def test_settings_of_dspy_travel() -> None:
    adapter = dspy.JSONAdapter()
    with dspy.context(adapter=adapter, max_errors=3):
        assert settings_to_send() == {"adapter": adapter, "max_errors": 3, "callbacks": []}


def test_a_callback_that_cannot_travel_stays_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with dspy.context(callbacks=[Watching()]), caplog.at_level(logging.WARNING):
        assert settings_to_send()["callbacks"] == []
    assert "Watching among dspy.settings.callbacks can't travel" in caplog.text


@pytest.mark.parametrize("workers", [0, -1, True, 2.0, "2"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(workers: Any) -> None:
    with pytest.raises(ConfigError, match="whole number of at least 1"):
        RayExecutor(workers=workers)


@pytest.mark.parametrize("setup", ["module", ":function", "module:", 3])
def test_a_setup_that_cannot_be_called_is_refused(setup: Any) -> None:
    with pytest.raises(ConfigError, match="setup="):
        RayExecutor(workers=1, setup=setup)


@pytest.mark.parametrize("option", sorted(RESERVED_OPTIONS))
def test_options_that_are_not_the_users_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} can't be set"):
        RayExecutor(workers=1, options={option: 1})
