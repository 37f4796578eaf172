"""The HTTP server and client of students: which requests are accepted, and how answers are read."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from simba_actors import RemoteStudent
from simba_actors.bridge.calls import StudentCallError
from simba_actors.bridge.http_client import SERVICE
from simba_actors.bridge.messages import LARGEST_MESSAGE
from simba_actors.errors import StudentUnreachableError
from simba_actors.lm.failures import FailureClass
from tests.support.students import Answer, OddStudent, quiz_service, served, succeeded
from tests.support.waiting import PATIENCE

TOKEN = "a-secret-token"  # noqa: S105 - of a test

JSON_TYPE = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client() -> Generator[httpx.Client]:
    with (
        served(quiz_service(), token=TOKEN) as address,
        httpx.Client(base_url=f"{address}/{SERVICE}/", timeout=PATIENCE) as client,
    ):
        yield client


def post(client: httpx.Client, method: str = "Describe", *, content: bytes = b"{}", **headers: str) -> httpx.Response:
    standard = {**JSON_TYPE, "Authorization": f"Bearer {TOKEN}"}
    return client.post(method, content=content, headers={**standard, **headers})


def failure_of(answer: Answer) -> StudentCallError:
    """The error of a Run that is answered by `answer`."""
    with OddStudent(answer) as odd:
        student = RemoteStudent(odd.address)
        with pytest.raises(StudentCallError) as raised:
            student(question="What?")
    return raised.value


def test_a_token_lets_a_caller_in(client: httpx.Client) -> None:
    assert post(client).json()["name"] == "HintAndAnswer"


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer other", "Bearer ä"])
def test_a_wrong_token_is_refused(client: httpx.Client, shown: str) -> None:
    response = client.post(
        "Describe", content=b"{}", headers=[(b"Content-Type", b"application/json"), (b"Authorization", shown.encode())]
    )
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")


def test_web_pages_are_kept_out(client: httpx.Client) -> None:
    assert post(client, Origin="https://evil.example").status_code == 403


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"not json", {}, 400),
        (b"[]", {}, 400),
        (b'{"majors": "all"}', {}, 400),
        (b'{"majors": [7]}', {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b'{"majors":[' + b" " * LARGEST_MESSAGE + b"]}", {}, 413),
        (b"[" * 100_000, {}, 400),
    ],
)
def test_what_can_not_be_understood_is_refused(
    client: httpx.Client, content: bytes, headers: dict[str, str], status: int
) -> None:
    response = post(client, content=content, **headers)
    assert response.status_code == status
    assert response.json()["message"]


def test_a_method_that_there_is_not_is_refused(client: httpx.Client) -> None:
    assert post(client, "Explode").json()["code"] == "unimplemented"


def test_a_wrong_token_is_named_where_the_student_is_made() -> None:
    with (
        served(quiz_service(), token=TOKEN) as address,
        pytest.raises(StudentUnreachableError, match=r"unauthenticated.*correct the address or the token"),
    ):
        RemoteStudent(address, token="wrong")  # noqa: S106 - of a test


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMBA_STUDENT_TOKEN", TOKEN)
    with served(quiz_service(), token=TOKEN) as address:
        assert RemoteStudent(address).description.name == "HintAndAnswer"


def echoed(request: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
    return 500, {}, {"code": "internal", "message": f"who is {TOKEN}?"}


def failed_with_token(request: dict[str, Any]) -> dict[str, Any]:
    failure = {"type": "ValueError", "message": f"who is {TOKEN}?"}
    return succeeded(request, outcome="OUTCOME_PROGRAM_FAILURE", prediction=None, failure=failure)


@pytest.mark.parametrize("answer", [echoed, failed_with_token])
def test_a_token_that_the_student_repeats_is_hidden(answer: Answer) -> None:
    with OddStudent(answer) as odd:
        student = RemoteStudent(odd.address, token=TOKEN)
        with pytest.raises(Exception, match="who is") as raised:
            student(question="What?")
    assert TOKEN not in "".join(traceback.format_exception(raised.value))


def refused(status: int, code: str, **headers: str) -> Answer:
    return lambda request: (status, headers, {"code": code, "message": "no"})


@pytest.mark.parametrize(
    ("answer", "failure_class"),
    [
        (refused(429, "resource_exhausted"), FailureClass.CROWDED),
        (refused(401, "unauthenticated"), FailureClass.PERSISTENT),
        (refused(403, "permission_denied"), FailureClass.PERSISTENT),
        (refused(400, "failed_precondition"), FailureClass.PERSISTENT),
        (refused(400, "invalid_argument"), FailureClass.REJECTED),
        (refused(409, "already_exists"), FailureClass.REJECTED),
        (refused(503, "unavailable"), FailureClass.TRANSIENT),
        (refused(504, "deadline_exceeded"), FailureClass.TRANSIENT),
        (refused(500, "internal"), FailureClass.TRANSIENT),
        (refused(500, "no such code"), FailureClass.TRANSIENT),
        (lambda request: (500, {}, {"code": ["no"]}), FailureClass.TRANSIENT),
        (lambda request: (429, {}, b"<html>busy</html>"), FailureClass.CROWDED),
        (lambda request: (502, {}, b"<html>bad gateway</html>"), FailureClass.TRANSIENT),
        (lambda request: (302, {"Location": "http://127.0.0.1:1/"}, b""), FailureClass.TRANSIENT),
        (lambda request: (413, {}, b""), FailureClass.REJECTED),
        (lambda request: (422, {}, {"detail": [{"msg": "Field required"}]}), FailureClass.REJECTED),
        (lambda request: (405, {}, b"Method Not Allowed"), FailureClass.PERSISTENT),
        (lambda request: (499, {}, b""), FailureClass.TRANSIENT),
        (lambda request: b"", FailureClass.TRANSIENT),
        (lambda request: b"not json", FailureClass.TRANSIENT),
        (lambda request: b'{"outcome": NaN}', FailureClass.TRANSIENT),
        (lambda request: b"[" * 100_000, FailureClass.TRANSIENT),
        (lambda request: b"\xff\xfe", FailureClass.TRANSIENT),
        (lambda request: b"[]", FailureClass.TRANSIENT),
        (lambda request: b"null", FailureClass.TRANSIENT),
        (lambda request: (200, {"Content-Length": "1000"}, b'{"key":'), FailureClass.TRANSIENT),
    ],
)
def test_an_answer_that_is_no_reply_has_its_class(answer: Answer, failure_class: FailureClass) -> None:
    assert failure_of(answer).failure_class is failure_class


def test_retry_after_is_honoured() -> None:
    answer = refused(429, "resource_exhausted", **{"Retry-After": "7"})
    assert failure_of(answer).retry_after == 7


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_no_number_of_seconds_is_ignored(text: str) -> None:
    assert failure_of(refused(429, "resource_exhausted", **{"Retry-After": text})).retry_after is None


def test_an_answer_that_is_too_large_is_not_read() -> None:
    error = failure_of(lambda request: b"x" * (LARGEST_MESSAGE + 1))
    assert f"more than {LARGEST_MESSAGE:,} bytes" in str(error)


def test_a_request_that_is_too_large_is_not_sent() -> None:
    with OddStudent(succeeded) as odd:
        student = RemoteStudent(odd.address)
        with pytest.raises(StudentCallError, match=r"was not sent: it has more than 16,777,216 bytes"):
            student(question="x" * LARGEST_MESSAGE)
        assert odd.count("Run") == 0


def test_an_address_may_have_a_path() -> None:
    with OddStudent(succeeded) as odd:
        assert RemoteStudent(f"{odd.address}/students/odd/")(question="What?").answer == "blue"


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "OUTCOME_UNSPECIFIED"},
        {"outcome": "GREAT"},
        {"outcome": None},
        {"prediction": None},
        {"prediction": ["blue"]},
        {"trace": [{"inputs": 3}]},
        {"outcome": "OUTCOME_PROGRAM_FAILURE"},
        {"key": "another"},
    ],
)
def test_a_reply_that_makes_no_sense_is_never_evidence(changes: dict[str, Any]) -> None:
    error = failure_of(lambda request: succeeded(request, **changes))
    assert error.failure_class is FailureClass.TRANSIENT
