"""Errors of the commands for remote students. `tests/bridge` tests the commands when they serve."""

from __future__ import annotations

from pathlib import Path

import dspy
import pytest

from tests.support.command_line import run_command

APP = """
import dspy

number = 3
student = dspy.Predict("question -> answer")

def make():
    return student
"""


@pytest.fixture(autouse=True)
def _app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app_of_a_student.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("SIMBA_STUDENT_TOKEN", raising=False)


def refusal(*words: str) -> str:
    """Return what a command prints when it exits with 1."""
    with dspy.context(lm=None):
        result = run_command(words)
    assert result.exit_code == 1
    return result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("app",), "must be MODULE:NAME"),
        (("no_such_module:make",), "can't be found"),
        (("app_of_a_student:nothing",), "can't be found"),
        (("app_of_a_student:number",), "must be a dspy.Module"),
        (("app_of_a_student:make",), "predictor 'self' has no LM"),
        (("app_of_a_student:make", "--host", "192.0.2.1"), "set the environment variable SIMBA_STUDENT_TOKEN"),
        (("app_of_a_student:make", "--certificate", "cert.pem"), "TLS needs --certificate and --key"),
        (("app_of_a_student:make", "--client-ca", "ca.pem"), "TLS needs --certificate and --key"),
    ],
)
def test_a_program_that_can_not_be_served_is_refused(words: tuple[str, ...], message: str) -> None:
    assert message in refusal("student", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("127.0.0.1:7000",), "must begin with http://"),
        (("http://127.0.0.1:1",), "can't be reached"),
        (("http://127.0.0.1:1", "--inputs", "question"), "--inputs is not JSON"),
        (("http://127.0.0.1:1", "--inputs", "[]"), "--inputs must be a JSON object"),
        (("https://127.0.0.1:1", "--ca", "missing.pem"), "check the files"),
    ],
)
def test_a_check_that_can_not_be_made_says_why(words: tuple[str, ...], message: str) -> None:
    assert message in refusal("conformance", *words)
