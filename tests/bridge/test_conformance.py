"""Every reference student conforms to the contract, over HTTP and gRPC, and the check finds those that do not."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from simba_actors.bridge.conformance import CASES, Finding, check
from simba_actors.bridge.messages import Description, RunReply, RunRequest
from tests.support.command_line import run_command
from tests.support.languages import PROTO, elixir_student, node_student
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import legible_script
from tests.support.scripted_lm import ScriptedLM
from tests.support.students import (
    DESCRIPTION,
    OddStudent,
    quiz_service,
    served,
    served_over_grpc,
    succeeded,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lm() -> Generator[str]:
    with OpenAIServer(legible_script) as server:
        yield server.address


@pytest.fixture(scope="module")
def node(lm: str, node_folder: Path) -> Generator[list[str]]:
    with node_student(node_folder, lm) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def elixir(lm: str) -> Generator[list[str]]:
    with elixir_student(lm) as addresses:
        yield addresses


def problems(address: str) -> list[Finding]:
    return [finding for finding in check(address) if finding.problem is not None]


def test_the_python_student_keeps_to_the_contract_over_http() -> None:
    with served(quiz_service(lm=ScriptedLM(legible_script))) as address:
        assert problems(address) == []


def test_the_python_student_keeps_to_the_contract_over_grpc() -> None:
    with served_over_grpc(quiz_service(lm=ScriptedLM(legible_script))) as address:
        assert problems(address) == []


def test_the_typescript_student_keeps_to_the_contract_over_http(node: list[str]) -> None:
    assert problems(node[0]) == []


def test_the_typescript_student_keeps_to_the_contract_over_grpc(node: list[str]) -> None:
    pytest.importorskip("grpc")
    assert problems(node[1]) == []


def test_the_elixir_student_keeps_to_the_contract(elixir: list[str]) -> None:
    assert problems(elixir[0]) == []


def test_a_student_that_agrees_to_everything_is_found_out() -> None:
    with OddStudent(lambda request: succeeded(request | {"key": request.get("key", "")})) as odd:
        found = {finding.name for finding in problems(odd.address)}
    assert {
        "refuses to describe itself in versions that it does not speak",
        "refuses another request with the same key",
        "refuses a key with other characters",
        "refuses an unknown model",
    } <= found


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"key": "mine"}, "the reply's key must be that of the request"),
        ({"trace": []}, "without steps there are no demos"),
        ({"trace": [{"predictor": "judge"}]}, "a step of the trace is of 'judge'"),
        ({"trace": [{"predictor": "answer", "outputs": {"mood": "good"}}]}, "has the fields ['mood']"),
        ({"usage": {"calls": -1}}, "the usage must be numbers of at least 0"),
        ({"outcome": "OUTCOME_FINE"}, "its answer is not a RunReply"),
    ],
)
def test_a_reply_that_is_wrong_is_explained(changes: dict[str, Any], problem: str) -> None:
    with OddStudent(lambda request: succeeded(request, **changes)) as odd:
        found = {finding.name: finding.problem for finding in check(odd.address)}
    assert problem in (found["runs the program"] or "")


def test_a_description_that_contradicts_itself_is_explained() -> None:
    description = {**DESCRIPTION, "predictors": DESCRIPTION["predictors"] * 2}
    with OddStudent(succeeded, describe=lambda request: description) as odd:
        found = {finding.name: finding.problem for finding in check(odd.address)}
    assert "must be unique" in (found["describes itself"] or "")


def test_the_command_prints_each_case_and_fails_if_one_does() -> None:
    with OddStudent(succeeded) as odd:
        result = run_command(["conformance", odd.address])
    assert result.exit_code == 1
    assert re.search(r"^ok +describes itself$", result.output, re.MULTILINE)
    assert re.search(r"^FAILED +refuses a key with other characters: it must refuse", result.output, re.MULTILINE)


def test_the_names_of_cases_are_unique() -> None:
    names = [case["name"] for case in json.loads(CASES.read_text())]
    assert len(set(names)) == len(names)


def test_the_descriptors_are_those_of_the_contract(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    from simba_actors.bridge.protobuf import DESCRIPTORS

    made = tmp_path / "bridge.binpb"
    include = Path(protoc.__file__).parent / "_proto"
    words = ["protoc", f"-I{PROTO.parent}", f"-I{include}", f"--descriptor_set_out={made}", PROTO.name]
    assert protoc.main(words) == 0
    assert made.read_bytes() == DESCRIPTORS.read_bytes()


@pytest.mark.parametrize("message", [Description, RunRequest, RunReply])
def test_messages_have_the_fields_of_the_contract(message: Any) -> None:
    body = re.search(rf"^message {message.__name__} {{(.*?)^}}", PROTO.read_text(), re.MULTILINE | re.DOTALL)
    assert body is not None
    fields = re.findall(r"^  (?!//)[\w.<>, ]+ (\w+) = \d+;", body[1], re.MULTILINE)
    assert set(fields) == set(message.model_fields)
