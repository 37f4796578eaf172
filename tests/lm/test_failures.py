"""Classes of errors that custom LMs raise: those of other clients, of imports and of warnings."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import dspy
import pytest
from botocore.exceptions import ClientError
from dspy.utils.exceptions import LMRateLimitError, LMServerError

from simba_actors.errors import LMAccessError, LMUnavailableError
from simba_actors.lm.failures import FailureClass, classify, retry_after_of
from simba_actors.lm.governed_lm import governed
from simba_actors.lm.governor import Governor
from simba_actors.lm.retry import Retry
from simba_actors.lm.secrets import LONGEST_ERROR, Secrets

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")


class Raising(dspy.BaseLM):
    """Raises `error` at each call."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("mine/lm")
        self.error = error
        self.calls: list[Any] = []

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        self.calls.append(prompt)
        raise self.error


def aws_error(code: str, status: int, message: str) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Converse")


class GoogleError(Exception):
    """An error with its status where google.api_core's errors have it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = HTTPStatus(code)


@pytest.mark.parametrize(
    ("error", "failure_class"),
    [
        (aws_error("ThrottlingException", 429, "Too many tokens, please wait."), FailureClass.CROWDED),
        (aws_error("AccessDeniedException", 403, "You don't have access to the model."), FailureClass.PERSISTENT),
        (aws_error("ExpiredTokenException", 403, "The security token is expired"), FailureClass.PERSISTENT),
        (aws_error("ValidationException", 400, "The model identifier is invalid."), FailureClass.REJECTED),
        (aws_error("ValidationException", 400, "Input is too long for requested model."), FailureClass.PROMPT),
        (aws_error("ModelTimeoutException", 408, "Model processing timed out"), FailureClass.TRANSIENT),
        (GoogleError(429, "Resource exhausted"), FailureClass.CROWDED),
        (GoogleError(403, "Permission denied"), FailureClass.PERSISTENT),
        (GoogleError(503, "Unavailable"), FailureClass.CROWDED),
        (GoogleError(400, "API key not valid"), FailureClass.REJECTED),
    ],
    ids=str,
)
def test_an_error_of_another_client_is_known_by_its_status(error: Exception, failure_class: FailureClass) -> None:
    assert classify(error) is failure_class


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "failure_class"),
    [
        (lambda lib: lib.ContextWindowExceededError("too long", "m", "openai"), FailureClass.PROMPT),
        (lambda lib: lib.ContentPolicyViolationError("filtered", "m", "azure"), FailureClass.PROMPT),
        (lambda lib: lib.BudgetExceededError(current_cost=10.5, max_budget=10.0), FailureClass.PERSISTENT),
        (lambda lib: lib.AuthenticationError("wrong key", "openai", "m"), FailureClass.PERSISTENT),
        (lambda lib: lib.NotFoundError("no such model", "m", "openai"), FailureClass.REJECTED),
        (lambda lib: lib.BadRequestError("unknown field", "m", "openai"), FailureClass.REJECTED),
        (lambda lib: lib.RateLimitError("slow down", "openai", "m"), FailureClass.CROWDED),
        (lambda lib: lib.RateLimitError("You exceeded your current quota", "openai", "m"), FailureClass.PERSISTENT),
        (lambda lib: lib.ServiceUnavailableError("down", "openai", "m"), FailureClass.CROWDED),
        (lambda lib: lib.InternalServerError("the content filter is down", "openai", "m"), FailureClass.TRANSIENT),
        (lambda lib: lib.Timeout("too slow", "m", "openai"), FailureClass.TRANSIENT),
        (lambda lib: lib.APIConnectionError("no route", "openai", "m"), FailureClass.TRANSIENT),
        (lambda lib: ValueError("No deployments available for selected model, Try again in 5 seconds."), None),
    ],
)
def test_an_error_of_litellm_is_known_by_its_status_and_words(
    make: Callable[[Any], Exception], failure_class: FailureClass | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # Otherwise its import asks the internet for prices.
    import litellm

    assert classify(make(litellm)) is (failure_class or FailureClass.TRANSIENT)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Please try again in 7m12s.", 432.0),
        ("Please try again in 8.64s. Visit …", 8.64),
        ("Please try again in 6h0m0s.", 21_600.0),
        ("Please try again in 350ms.", 0.35),
        ("Please retry after 37 seconds.", 37.0),
        ("Please retry in 36.429760048s.", 36.429760048),
        ("try again in 15 minutes.", 900.0),
        ("Try again in 5 days", 432_000.0),
        ("try again in 2 deployments", None),
        ("try again later", None),
        ("in 5 seconds", None),
    ],
)
def test_a_time_to_wait_is_read_from_the_words_of_an_error(words: str, seconds: float | None) -> None:
    assert retry_after_of(LMRateLimitError(words)) == (seconds if seconds is None else pytest.approx(seconds))


def test_the_header_counts_rather_than_the_words() -> None:
    assert retry_after_of(LMRateLimitError("try again in 1h", retry_after=2.0)) == 2.0


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("30", 30.0), (-5, 0.0), (True, 1.0), ("soon", None), ("inf", None), (float("nan"), None), (10**400, None)],
)
def test_a_time_to_wait_that_makes_no_sense_is_none(asked: Any, seconds: float | None) -> None:
    error = LMRateLimitError("slow down")
    error.retry_after = asked
    assert retry_after_of(error) == seconds


async def test_a_time_to_wait_beyond_the_grace_period_pauses_at_once() -> None:
    lm = Raising(LMRateLimitError("Limit 200, Used 200. Please try again in 7m12s."))
    with pytest.raises(LMUnavailableError, match="asks to wait for 432 s, which is longer than the grace period"):
        await governed(lm, Governor()).acall("hello")
    assert len(lm.calls) == 1


async def test_a_missing_package_is_named_as_such() -> None:
    lm = Raising(ModuleNotFoundError("No module named 'boto3'"))
    with pytest.raises(LMAccessError) as raised:
        await governed(lm, Governor()).acall("hello")
    assert "mine/lm can't import what it needs: ModuleNotFoundError: No module named 'boto3'" in str(raised.value)
    assert "Install the package" in str(raised.value)
    assert "key" not in str(raised.value)
    assert len(lm.calls) == 1


@pytest.mark.parametrize("warning", [DeprecationWarning("old"), UserWarning("odd"), ResourceWarning("open")])
async def test_a_warning_that_is_an_error_here_is_named_as_such(warning: Warning) -> None:
    lm = Raising(warning)
    with pytest.raises(LMAccessError) as raised:
        await governed(lm, Governor()).acall("hello")
    assert f"turns the warning into an error: {type(warning).__name__}: {warning}" in str(raised.value)
    assert "warnings.filterwarnings" in str(raised.value)
    assert "key" not in str(raised.value)
    assert len(lm.calls) == 1


@pytest.mark.parametrize("text", ["the monthly report failed", "insufficient funds", "budget limit"])
async def test_money_in_the_words_of_an_error_without_a_status_says_nothing_of_the_account(text: str) -> None:
    lm = Raising(ValueError(text))
    with pytest.raises(LMAccessError, match="Correct the LM's code"):
        await governed(lm, Governor(retry=Retry(base=0.001))).acall("hello")


def test_of_a_long_error_the_beginning_and_the_end_are_kept_without_keys() -> None:
    secrets = Secrets()
    key = "sk-0123456789abcdef"
    text = secrets.describe(ValueError(f"{'a' * 4_985}{key}{'x' * 300_000} the end"))
    assert text.startswith("ValueError: aaaa")
    assert text.endswith("x the end")
    assert "characters left out" in text
    assert len(text) < LONGEST_ERROR + 100
    assert key[:12] not in text


def test_an_outage_stays_one_whatever_its_words() -> None:
    assert classify(LMServerError("the billing service, with its spend limit, is down", status=500)) is (
        FailureClass.TRANSIENT
    )
