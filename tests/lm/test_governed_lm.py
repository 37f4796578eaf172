"""What a governed LM sends: the user's own settings as they are now, and no more than the endpoint accepts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import anyio
import dspy
import pytest

from simba_actors.errors import InfrastructureError, LMAccessError
from simba_actors.lm.endpoint import Temperature
from simba_actors.lm.governed_lm import governed
from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.retry import Retry
from simba_actors.lm.secrets import HIDDEN
from tests.support.openai_server import Faults, OpenAIServer
from tests.support.quiz import legible_script
from tests.support.waiting import until

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")

HASTY = Retry(base=0.001, longest=0.002)


def reply(*texts: str) -> Any:
    """An OpenAI-shaped reply with these choices, as custom LMs return them."""
    choices = [SimpleNamespace(message=SimpleNamespace(content=text), finish_reason="stop") for text in texts]
    return SimpleNamespace(choices=choices, usage={"prompt_tokens": 1, "completion_tokens": 1}, model="m")


class Reasoner(dspy.BaseLM):
    """Rejects any temperature, as reasoning models do, with `words`."""

    def __init__(self, words: str = "Unsupported value: 'temperature'") -> None:
        super().__init__("reasoner")
        self.words = words
        self.asked: list[dict[str, Any]] = []

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        settings = {**self.kwargs, **kwargs}
        self.asked.append(settings)
        if settings.get("temperature") is not None:
            raise dspy.LMInvalidRequestError(self.words, status=400)
        return reply("there")


class Moody(dspy.BaseLM):
    """Rejects every third call without giving a reason."""

    def __init__(self) -> None:
        super().__init__("moody")
        self.asked: list[dict[str, Any]] = []

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        self.asked.append({**self.kwargs, **kwargs})
        if len(self.asked) % 3 == 1:
            raise dspy.LMInvalidRequestError("bad request", status=400)
        return reply("there")


class Twice(dspy.BaseLM):
    """An LM with a method of its own that calls the LM."""

    def ask_twice(self, question: str) -> list[Any]:
        return [self(question), self(question)]

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return reply("there")


class Forgetful(dspy.BaseLM):
    """Answers at the second attempt."""

    def __init__(self) -> None:
        super().__init__("forgetful")
        self.asked: list[Any] = []

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        self.asked.append(prompt)
        return reply() if len(self.asked) == 1 else reply("there")


async def test_a_key_that_was_renewed_is_sent_with_the_next_call() -> None:
    with OpenAIServer(legible_script) as server:
        lm = server.lm(api_key="old-secret-key")
        copy = governed(lm, Governor())
        await copy.acall("hello")
        lm.kwargs["api_key"] = "new-secret-key"
        await copy.acall("hello")
    sent = [headers["authorization"] for headers in server.headers]
    assert sent == ["Bearer old-secret-key", "Bearer new-secret-key"]


async def test_a_key_that_was_renewed_is_a_secret() -> None:
    governor = Governor()
    with OpenAIServer(legible_script) as server:
        lm = server.lm(api_key="old-secret-key")
        copy = governed(lm, governor)
        lm.kwargs["api_key"] = "new-secret-key"
        await copy.acall("hello")
    assert governor.secrets.hide("new-secret-key and old-secret-key") == f"{HIDDEN} and {HIDDEN}"


async def test_an_address_that_was_changed_is_called_next() -> None:
    with OpenAIServer(legible_script) as first, OpenAIServer(legible_script) as second:
        lm = first.lm()
        copy = governed(lm, Governor())
        await copy.acall("hello")
        lm.kwargs["api_base"] = second.address
        await copy.acall("hello")
    assert (first.calls, second.calls) == (1, 1)


async def test_settings_that_belong_to_the_program_stay_as_they_were() -> None:
    lm = Reasoner()
    copy = governed(lm, Governor())
    lm.kwargs["max_tokens"] = 5
    await copy.acall("hello")
    assert lm.asked[0].get("max_tokens") is None


async def test_a_model_that_rejects_the_sampling_temperature_is_sampled_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lm, governor = Reasoner(), Governor(retry=HASTY)
    with caplog.at_level(logging.WARNING, logger="simba_actors"):
        for rollout_id in range(3):
            copy = governed(lm, governor, temperature=0.7, rollout_id=rollout_id)
            assert await copy.acall("hello") == ["there"]
    assert [kwargs.get("temperature") for kwargs in lm.asked] == [0.7, None, None, None]
    (warning,) = [record.message for record in caplog.records if record.name.startswith("simba_actors")]
    assert "rejects calls with temperature=0.7 and answers them without" in warning


async def test_a_rejection_without_a_reason_is_no_proof_until_it_is_repeated() -> None:
    lm, governor = Reasoner("odd setting"), Governor(retry=HASTY)
    for rollout_id in range(4):
        await governed(lm, governor, temperature=0.7, rollout_id=rollout_id).acall("hello")
    assert [kwargs.get("temperature") for kwargs in lm.asked] == [0.7, None, 0.7, None, None, None]


async def test_an_endpoint_that_has_accepted_the_temperature_keeps_it(caplog: pytest.LogCaptureFixture) -> None:
    lm, governor = Moody(), Governor(retry=HASTY)
    with caplog.at_level(logging.WARNING, logger="simba_actors"):
        for rollout_id in range(9):
            await governed(lm, governor, temperature=0.7, rollout_id=rollout_id).acall("hello")
    assert [kwargs.get("temperature") for kwargs in lm.asked].count(None) == 1
    assert not [record for record in caplog.records if "rejects calls" in record.message]


async def test_an_endpoint_that_no_longer_accepts_the_temperature_is_sampled_without_it() -> None:
    lm, governor = Reasoner("odd setting"), Governor(retry=HASTY)
    governor.endpoint("reasoner").temperature = Temperature.ACCEPTED
    for rollout_id in range(3):
        assert await governed(lm, governor, temperature=0.7, rollout_id=rollout_id).acall("hello") == ["there"]
    assert [kwargs.get("temperature") for kwargs in lm.asked] == [0.7, 0.7, None, 0.7, None, None]


async def test_calls_of_an_lms_own_methods_are_governed() -> None:
    counted: list[Any] = []
    copy = governed(Twice("twice"), Governor(), caller=Caller(before_blocking_call=counted.append))
    copy.ask_twice("hello")
    assert len(counted) == 2


async def test_a_temperature_that_the_student_asks_for_is_not_taken_away() -> None:
    lm = Reasoner()
    copy = governed(lm, Governor(retry=HASTY), temperature=0.7)
    with pytest.raises(Exception, match="temperature"):
        await copy.acall("hello", temperature=0.2)
    assert {kwargs.get("temperature") for kwargs in lm.asked} == {0.2}


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async", "sync"])
async def test_a_reply_without_an_answer_is_asked_for_again(*, asynchronous: bool) -> None:
    lm = Forgetful()
    copy = governed(lm, Governor(retry=HASTY))
    answer = await copy.acall("hello") if asynchronous else await copy._binding.threads.run(lambda: copy("hello"))
    assert (answer, len(lm.asked)) == (["there"], 2)


async def test_a_cached_reply_without_an_answer_is_asked_for_again() -> None:
    empty = {"id": "1", "object": "chat.completion", "created": 0, "model": "quiz", "choices": []}
    with OpenAIServer(legible_script) as server:
        server.overrides = [empty]
        lm = server.lm(cache=True)
        question = "a question that no other test asks"
        with pytest.raises(Exception, match=r"\S"):
            await governed(lm, Governor(retry=Retry(attempts=1))).acall(question)
        (answer,) = await governed(lm, Governor(retry=HASTY)).acall(question)
    assert answer


@pytest.mark.parametrize("status", [401, 429])
async def test_a_failure_is_described_on_one_line_without_the_advice_of_dspys_client(status: int) -> None:
    with OpenAIServer(legible_script, faults=Faults(status=status)) as server:
        lm = governed(server.lm(), Governor(retry=Retry(attempts=1)))
        with pytest.raises(InfrastructureError) as raised:
            await lm.acall("hello")
    message = str(raised.value)
    assert f"scripted answer {status}" in message
    assert "\n" not in message
    assert "To fix" not in message


def empty_reply(finish_reason: str | None) -> dict[str, Any]:
    """Return an empty reply that ended for this reason, or one without any choice."""
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": finish_reason}
    choices = [choice] if finish_reason else []
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "quiz", "choices": choices}


async def streamed_answer(*replies: dict[str, Any]) -> tuple[str, int]:
    """Return the answer of a governed LM that streams and gets these replies first, and how many calls it took."""
    with OpenAIServer(legible_script) as server:
        server.overrides = [*replies]
        send, receive = anyio.create_memory_object_stream[Any](100)
        with send, receive, dspy.context(send_stream=send):
            (answer,) = await governed(server.lm(), Governor(retry=HASTY)).acall("hello")
        return answer, server.calls


async def test_the_first_call_to_a_provider_may_be_streamed() -> None:
    answer, calls = await streamed_answer()
    assert (answer != "", calls) == (True, 1)


async def test_a_stream_without_an_answer_is_asked_for_again() -> None:
    answer, calls = await streamed_answer(empty_reply(None))
    assert (answer != "", calls) == (True, 2)


async def test_a_stream_that_a_content_filter_has_emptied_is_an_answer() -> None:
    assert await streamed_answer(empty_reply("content_filter")) == ("", 1)


async def test_a_cache_that_is_damaged_is_not_the_programs_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*args: Any, **kwargs: Any) -> Any:
        raise OSError("file is not a database")

    monkeypatch.setattr(dspy.cache, "get", damaged)
    with (
        OpenAIServer(legible_script) as server,
        pytest.raises(Exception, match=r"file is not a database.*then resume|Res"),
    ):
        await governed(server.lm(cache=True), Governor(retry=Retry(attempts=2, base=0.001))).acall("hello")


@pytest.mark.parametrize("error", [ValueError("no such mode"), TypeError("takes 2 arguments"), KeyError("choices")])
async def test_an_error_of_the_lms_own_code_is_reported_as_such(error: Exception) -> None:
    calls: list[Any] = []

    class Broken(dspy.BaseLM):
        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            calls.append(prompt)
            raise error

    lm = Broken("mine/broken")
    with pytest.raises(LMAccessError, match=f"the code of the LM mine/broken fails.*{type(error).__name__}"):
        await governed(lm, Governor(retry=HASTY)).acall("hello")
    assert len(calls) == 3


async def test_an_error_of_an_engine_is_reported_as_the_lms_own() -> None:
    class Engine:
        def complete(self, request: Any) -> Any:
            raise ValueError("no such mode")

    lm = dspy.LM("mine/engine", engine=cast("Any", Engine()), cache=False)
    with pytest.raises(LMAccessError, match=r"the code of the LM mine/engine fails.*no such mode"):
        await governed(lm, Governor(retry=HASTY)).acall("hello")


class Uncopyable(dspy.BaseLM):
    def __copy__(self) -> Any:
        raise TypeError("there is one")


class Final(dspy.BaseLM):
    def __init_subclass__(cls) -> None:
        raise TypeError("no sub-classes")

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return reply("there")


async def test_an_lm_that_can_not_be_copied_is_refused() -> None:
    with pytest.raises(LMAccessError, match=r"Uncopyable for 'mine/lm' can't be copied: TypeError: there is one"):
        governed(Uncopyable("mine/lm"), Governor())


async def test_an_lm_whose_class_forbids_sub_classes_is_governed() -> None:
    assert await governed(Final("mine/lm"), Governor()).acall("hello") == ["there"]


class Exit(BaseException):
    pass


class FrozenError(Exception):
    """An error that can't be changed or printed."""

    @property
    def code(self) -> int:
        raise RuntimeError("not to be read")

    status = status_code = response = retry_after = message = code

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("frozen")


ODD_ERRORS = [Exit(), SystemExit(2), GeneratorExit(), asyncio.CancelledError(), FrozenError("frozen")]


class OddEngine:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def complete(self, request: Any) -> Any:
        raise self.error


class OddAsyncEngine(OddEngine):
    async def complete(self, request: Any) -> Any:
        raise self.error


async def blocking(lm: Any) -> Any:
    return lm("hello")


WAYS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "on the loop": lambda lm: lm.acall("hello"),
    "in a thread": lambda lm: lm._binding.threads.run(lambda: lm("hello")),
    "blocking the loop": blocking,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", ODD_ERRORS, ids=lambda error: type(error).__name__)
async def test_whatever_an_lm_raises_is_the_infrastructures_failure(error: BaseException, way: str) -> None:
    engines: Any = {"engine": OddEngine(error), "async_engine": OddAsyncEngine(error)}
    lm = governed(dspy.LM("mine/odd", cache=False, **engines), Governor(retry=HASTY))
    with pytest.raises(InfrastructureError, match=r"mine/odd fail"):
        await WAYS[way](lm)


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_counts_as_one_of_the_endpoints_whichever_way_it_was_asked_for(way: str) -> None:
    governor, lm = Governor(), Forgetful()
    lm.asked.append("before")
    await WAYS[way](governed(lm, governor))
    await until(lambda: list(governor.answers().values()) == [1])
