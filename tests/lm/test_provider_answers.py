"""How a run handles each answer of a provider, sent over real HTTP and read by DSPy's own client."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy
import pytest

from simba_actors.errors import InfrastructureError, LMAccessError, LMUnavailableError
from simba_actors.lm.failures import infrastructure_cause
from simba_actors.lm.governed_lm import governed
from simba_actors.lm.governor import Governor
from simba_actors.lm.retry import Retry
from tests.lm.provider_answers import ANSWERS, Meaning, ProviderAnswer
from tests.support.waiting import PATIENCE

GOOD = {answer.provider: answer for answer in ANSWERS if answer.name == "text"}

KEY = "not-a-key"

LMS: dict[str, Callable[[str], dspy.LM]] = {
    "openai": lambda at: dspy.LM("openai/quiz", api_base=f"{at}/v1", api_key=KEY),
    "azure": lambda at: dspy.LM("azure/quiz", api_base=at, api_version="2024-10-21", api_key=KEY),
    "anthropic": lambda at: dspy.LM("anthropic/quiz", api_base=at, api_key=KEY),
    "gemini": lambda at: dspy.LM("gemini/quiz", api_base=f"{at}/v1beta", api_key=KEY),
    "bedrock": lambda at: dspy.LM(
        "bedrock/anthropic.claude-3-sonnet-20240229-v1:0",
        aws_bedrock_runtime_endpoint=at,
        aws_access_key_id=KEY,
        aws_secret_access_key=KEY,
        aws_region_name="us-east-1",
    ),
    "openrouter": lambda at: dspy.LM("openrouter/meta/quiz", api_base=f"{at}/api/v1", api_key=KEY),
    "litellm": lambda at: dspy.LM("openai/quiz", api_base=at, api_key=KEY),
    "vllm": lambda at: dspy.LM("hosted_vllm/quiz", api_base=f"{at}/v1", api_key=KEY),
    "llama.cpp": lambda at: dspy.LM("openai/quiz", api_base=f"{at}/v1", api_key=KEY),
    "ollama": lambda at: dspy.LM("ollama_chat/quiz", api_base=f"{at}/v1"),
}

THROUGH_LITELLM = {"azure", "bedrock"}
"""Providers that DSPy reaches through LiteLLM, which takes seconds to import."""

ATTEMPTS = 4


class Provider:
    """Answers the first `times` requests with `first`, and all later ones with the provider's good answer."""

    def __init__(self) -> None:
        self.first = GOOD["openai"]
        self.times = 0
        self.requests = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                provider.requests += 1
                answer = provider.first if provider.requests <= provider.times else GOOD[provider.first.provider]
                body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
                self.send_response(answer.status)
                headers = {"Content-Type": "application/json", "Content-Length": str(len(body.encode()))}
                for name, value in {**headers, **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def prepare(self, answer: ProviderAnswer, times: int) -> None:
        self.first, self.times, self.requests = answer, times, 0


class QuickClock:
    """A clock that jumps instead of waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.01,))
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # Otherwise its import asks the internet for prices.
        yield provider
    provider.server.shutdown()
    thread.join(PATIENCE)
    provider.server.server_close()


async def ask(provider: Provider) -> list[Any]:
    """Return how a governed LM handles the provider's answers."""

    clock = QuickClock()
    lm = LMS[provider.first.provider](provider.address)
    lm.cache = False
    governor = Governor(retry=Retry(attempts=ATTEMPTS), sleep=clock.sleep, clock=clock)
    return await governed(lm, governor).acall("hello")


def those_that_are(meaning: Meaning) -> list[Any]:
    return [
        pytest.param(answer, id=answer.id, marks=[pytest.mark.slow] if answer.provider in THROUGH_LITELLM else [])
        for answer in ANSWERS
        if answer.means is meaning
    ]


@pytest.mark.parametrize("answer", those_that_are(Meaning.ANSWER))
async def test_an_answer_reaches_the_student(provider: Provider, answer: ProviderAnswer) -> None:
    provider.prepare(answer, times=1)
    (text,) = await ask(provider)
    assert (provider.requests, text) == (1, "there" if answer.name == "text" else text)


@pytest.mark.parametrize("answer", those_that_are(Meaning.RETRY))
async def test_what_may_pass_is_tried_again(provider: Provider, answer: ProviderAnswer) -> None:
    provider.prepare(answer, times=1)
    assert await ask(provider) == ["there"]
    assert provider.requests == 2


@pytest.mark.parametrize("answer", those_that_are(Meaning.RETRY))
async def test_what_does_not_pass_pauses_for_the_outage(provider: Provider, answer: ProviderAnswer) -> None:
    provider.prepare(answer, times=ATTEMPTS)
    with pytest.raises(LMUnavailableError, match=f"(?s){ATTEMPTS} (times|attempts).*Resume when it answers again"):
        await ask(provider)
    assert provider.requests == ATTEMPTS


@pytest.mark.parametrize("answer", those_that_are(Meaning.ACCESS))
async def test_what_needs_somebody_pauses_for_access(provider: Provider, answer: ProviderAnswer) -> None:
    provider.prepare(answer, times=ATTEMPTS)
    with pytest.raises(LMAccessError, match="then resume"):
        await ask(provider)


@pytest.mark.parametrize("answer", those_that_are(Meaning.PROMPT))
async def test_what_the_prompt_brought_about_fails_the_program(provider: Provider, answer: ProviderAnswer) -> None:
    provider.prepare(answer, times=1)
    with pytest.raises(Exception, match=r"\S") as raised:
        await ask(provider)
    assert not isinstance(raised.value, InfrastructureError)
    assert infrastructure_cause(raised.value) is None
    assert provider.requests == 1


def test_there_are_answers_of_ten_providers() -> None:
    assert (len(LMS), set(LMS)) == (10, set(GOOD))
