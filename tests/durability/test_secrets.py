"""Keys stay out of the store, the logs and the events."""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError

from simba_actors import Governor, LiveProgram, Optimizer, Retry
from simba_actors.errors import LMAccessError, MetricError
from simba_actors.events import ActorCrashed, CallRetried, Event, RunPaused, TrajectorySampled
from simba_actors.lm.governed_lm import governed
from simba_actors.lm.secrets import Secrets
from simba_actors.strategies import AppendADemo, StrategyContext
from simba_actors.team.coordinator import Coordinator
from tests.support.crashing import Injector, inject
from tests.support.live import answer, publish, sayer
from tests.support.logs import logged_by
from tests.support.openai_server import Faults, OpenAIServer, lm_at
from tests.support.quiz import exact, quiz_script
from tests.support.runs import finish, reach, small_config
from tests.support.waiting import PATIENCE

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
            server.faults = Faults(status=401)  # Its message holds the key, as with some providers.
            paused = await reach(optimizer, RunPaused)
            events = await _stored(optimizer)
    assert any(headers["authorization"].endswith(KEY) for headers in server.headers)
    written = f"{retried}{paused}{events}{caplog.text}".encode() + b"".join(_contents(tmp_path))
    assert b"scripted answer 401" in written
    for secret in (KEY, TOKEN):
        assert secret.encode() not in written


async def test_a_planted_password_in_an_address_is_found_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lm = lm_at(f"http://me:{PASSWORD}@127.0.0.1:1/v1")
    governor = Governor(retry=Retry(base=0.01, longest=0.02, grace_period=0.05))
    config = small_config(tmp_path / "simba.db", lm=lm, prompt_model=lm, governor=governor)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, RunPaused)
        events = await _stored(optimizer)
    written = f"{events}{caplog.text}".encode() + b"".join(_contents(tmp_path))
    assert b"me:[hidden]@127.0.0.1" in written  # DSPy's own error shows the address.
    assert PASSWORD.encode() not in written


async def test_a_planted_key_in_a_metrics_error_is_found_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(example: Any, prediction: Any, trace: Any = None) -> bool:
        if prediction.answer == example.answer:
            return True
        raise RuntimeError(f"the judge refused {KEY}")

    caplog.set_level(logging.DEBUG)
    with pytest.raises(MetricError) as raised:
        await finish(small_config(tmp_path / "simba.db", metric=broken))
    written = f"{raised.value}{caplog.text}".encode() + b"".join(_contents(tmp_path))
    assert b"the judge refused [hidden]" in written
    assert KEY.encode() not in written


@pytest.mark.parametrize("who", ["the metric's LM", "an LM that no rollout governs"])
async def test_a_planted_key_in_the_error_of_an_lm_that_is_not_ours_is_found_nowhere(
    who: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise LMAuthError(f"Incorrect API key provided: {KEY}")

    def judged(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(exact(example, prediction) or refused())

    class Asking(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask: Any = dspy.Predict("question -> answer")

        async def aforward(self, question: str) -> Any:
            return refused()

    caplog.set_level(logging.DEBUG)
    changes: dict[str, Any] = {"metric": judged} if who == "the metric's LM" else {"student": Asking()}
    config = small_config(tmp_path / "simba.db", governor=Governor(retry=Retry(base=0.01, longest=0.02)), **changes)
    async with await Optimizer.start(config) as optimizer:
        paused = await reach(optimizer, RunPaused)
    written = f"{paused}{caplog.text}".encode() + b"".join(_contents(tmp_path))
    assert f"{who} failed: LMAuthError: Incorrect API key provided: [hidden]".encode() in written
    assert KEY.encode() not in written


async def test_a_planted_key_in_a_strategys_error_is_found_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(AppendADemo):
        async def apply(self, context: StrategyContext) -> Any:
            raise RuntimeError(f"no luck with {KEY}")

    caplog.set_level(logging.DEBUG)
    await finish(small_config(tmp_path / "simba.db", strategies=[Broken()]))
    written = caplog.text.encode() + b"".join(_contents(tmp_path))
    assert b"no luck with [hidden]" in written
    assert KEY.encode() not in written


async def test_a_planted_key_in_the_error_of_a_crash_is_found_in_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, Coordinator, Injector(at=[4], says=f" with {KEY}"))
    async with await Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        crashed = await reach(optimizer, ActorCrashed)
        await optimizer.result(PATIENCE)
    assert crashed.reason == "InjectedCrashError: before message 4 with [hidden]"


async def test_a_planted_key_in_the_error_of_a_live_programs_metric_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(example: Any, prediction: Any) -> bool:
        raise RuntimeError(f"the judge refused {KEY}")

    await publish(tmp_path / "simba.db", "one")
    live = LiveProgram(sayer(), store=tmp_path / "simba.db", metric=broken)
    await answer(live)
    live.close()
    assert logged_by(caplog, "simba_actors.live.recording") == [
        "a call of channel 'default' was not scored: RuntimeError: the judge refused [hidden]"
    ]


async def _stored(optimizer: Optimizer) -> list[Event]:
    """Return the events up to the pause."""
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        async for event in optimizer.events():
            events.append(event)
            if isinstance(event, RunPaused):
                break
    return events


def _contents(directory: Path) -> list[bytes]:
    return [file.read_bytes() for file in directory.iterdir()]


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Incorrect API key provided: sk-proj-abcdefgh12345678.", "Incorrect API key provided: [hidden]."),
        ("Authorization: Bearer abcdef.ghijkl", "Authorization: Bearer [hidden]"),
        ("can't reach https://user:hunter22@example.com/v1", "can't reach https://[hidden]@example.com/v1"),
        ("POST https://host/v1?key=abcdefgh&alt=sse failed", "POST https://host/v1?key=[hidden]&alt=sse failed"),
        ("API key not valid: AIzaSyD-abcdefghijklmnopqrstuvwxyz012", "API key not valid: [hidden]"),
        ("a task of a key figure", "a task of a key figure"),
    ],
)
def test_what_looks_like_a_key_is_hidden(text: str, hidden: str) -> None:
    assert Secrets().hide(text) == hidden


async def test_tracebacks_of_lm_errors_hold_no_key() -> None:
    key = "no pattern of keys fits this one"
    with OpenAIServer(quiz_script, faults=Faults(status=401)) as server, pytest.raises(LMAccessError) as raised:
        await governed(server.lm(api_key=key), Governor()).acall("hello")
    assert raised.value.__cause__ is not None
    assert key not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    "settings",
    [
        {"api_base": "https://host/v1?code=hunter2hunter2"},
        {"api_base": "https://gateway/hunter2hunter2hunter2x/v1"},
        {"extra_headers": {"X-Corp": "hunter2hunter2hunter2x"}},
        {"headers": {"Cookie": "hunter2hunter2hunter2x"}},
    ],
    ids=["query", "path", "header", "cookie"],
)
def test_credentials_of_gateways_are_hidden(settings: dict[str, Any]) -> None:
    secrets = Secrets()
    secrets.learn(dspy.LM("openai/x", **settings))
    assert "hunter2" not in secrets.hide(f"told: {settings}")


def test_each_value_of_a_cookie_is_hidden() -> None:
    secrets = Secrets()
    secrets.learn(dspy.LM("openai/x", extra_headers={"Cookie": "sid=correcthorse; lang=en; t=batterystaple="}))
    assert secrets.hide("session correcthorse of en, batterystaple=") == "session [hidden] of en, [hidden]"


def test_keys_in_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "correct.horse.battery")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    secrets = Secrets()
    secrets.learn(dspy.LM("mistral/x"))
    assert secrets.hide("correct.horse.battery, false") == "[hidden], false"


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
