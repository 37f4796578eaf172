"""Keys stay out of the store, the logs and the events."""

from __future__ import annotations

import logging
from pathlib import Path

import dspy
import pytest

from simba_actors import Governor, Optimizer, Retry
from simba_actors.events import CallRetried, RunPaused, TrajectorySampled
from simba_actors.rollouts.secrets import Secrets
from tests.support.openai_server import Faults, OpenAIServer, lm_at
from tests.support.quiz import quiz_script
from tests.support.runs import reach, small_config

KEY = "sk-planted-0123456789abcdef"
TOKEN = "planted-bearer-0123456789"  # noqa: S105
PASSWORD = "planted-password-0123456789"  # noqa: S105


async def test_planted_keys_are_found_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with OpenAIServer(quiz_script, faults=Faults(rate_limited=0.3)) as server:
        lm = server.lm(api_key=KEY)
        prompt_model = server.lm(api_key=TOKEN)
        governor = Governor(retry=Retry(base=0.01, longest=0.02))
        config = small_config(tmp_path / "simba.db", lm=lm, prompt_model=prompt_model, governor=governor)
        async with await Optimizer.start(config) as optimizer:
            retried = await reach(optimizer, CallRetried)
            await reach(optimizer, TrajectorySampled)
            server.faults = Faults(status=401)  # Whose message holds the key, as some providers' do.
            paused = await reach(optimizer, RunPaused)
            events = [event async for event in _stored(optimizer)]
    assert any(headers["authorization"].endswith(KEY) for headers in server.headers)
    told = f"{retried}{paused}{events}{caplog.text}".encode() + b"".join(_contents(tmp_path))
    assert b"told to answer 401" in told
    for secret in (KEY, TOKEN):
        assert secret.encode() not in told


async def test_a_planted_password_in_an_address_is_found_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lm = lm_at(f"http://me:{PASSWORD}@127.0.0.1:1/v1")
    governor = Governor(retry=Retry(base=0.01, longest=0.02, patience=0.05))
    config = small_config(tmp_path / "simba.db", lm=lm, prompt_model=lm, governor=governor)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, RunPaused)
        events = [event async for event in _stored(optimizer)]
    told = f"{events}{caplog.text}".encode() + b"".join(_contents(tmp_path))
    assert b"me:[hidden]@127.0.0.1" in told  # DSPy's own error tells the address.
    assert PASSWORD.encode() not in told


async def _stored(optimizer: Optimizer):
    async for event in optimizer.events():
        yield event
        if isinstance(event, RunPaused):
            return


def _contents(directory: Path) -> list[bytes]:
    return [file.read_bytes() for file in directory.iterdir()]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Incorrect API key provided: sk-proj-abcdefgh12345678.", "Incorrect API key provided: [hidden]."),
        ("Authorization: Bearer abcdef.ghijkl", "Authorization: Bearer [hidden]"),
        ("can't reach https://user:hunter22@example.com/v1", "can't reach https://[hidden]@example.com/v1"),
        ("a task of a key figure", "a task of a key figure"),
    ],
)
def test_what_looks_like_a_key_is_hidden(text: str, hidden: str) -> None:
    assert Secrets().hide(text) == hidden


def test_what_an_lm_holds_is_hidden_whatever_it_looks_like() -> None:
    secrets = Secrets()
    secrets.learn(
        dspy.LM(
            "openai/x",
            api_key="plain words",
            api_base="https://me:correcthorse@host/v1",
            extra_headers={"X-Api-Key": "batterystaple"},
            max_tokens=1000,
        )
    )
    assert secrets.hide("plain words, correcthorse, batterystaple, 1000") == "[hidden], [hidden], [hidden], 1000"
