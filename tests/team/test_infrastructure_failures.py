"""An error that keeps calls from being sent pauses the run, and is never a score."""

from __future__ import annotations

import errno
import http.client
import socket
import sqlite3
import ssl
import urllib.error
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest

from simba_actors import Governor, Optimizer, Retry
from simba_actors.events import RunPaused
from simba_actors.lm.rollout_context import current_rollout
from simba_actors.runtime.threads import Threads
from simba_actors.store import Reader
from simba_actors.strategies import AppendARule
from tests.support.logs import logged_by
from tests.support.runs import reach, small_config
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")

ERRORS: dict[str, Exception] = {
    "URLError": urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")),
    "gaierror": socket.gaierror(-2, "Name or service not known"),
    "ENETUNREACH": OSError(errno.ENETUNREACH, "Network is unreachable"),
    "SSLError": ssl.SSLError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
    "IncompleteRead": http.client.IncompleteRead(b"{", 100),
    "no thread": RuntimeError("can't start new thread"),
    "damaged cache": sqlite3.DatabaseError("file is not a database"),
}


def says_red(example: Any, prediction: Any) -> bool:
    return prediction.answer == "red"


class PlainLM(dspy.BaseLM):
    """An LM as users write it, with a sync `forward`. It raises the first of `errors`, while there are any."""

    def __init__(self, errors: list[Exception]) -> None:
        super().__init__("custom/lm")
        self.errors = errors

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        if self.errors:
            raise self.errors[0]
        message = SimpleNamespace(content="[[ ## answer ## ]]\nred\n\n[[ ## completed ## ]]")
        return SimpleNamespace(
            choices=[SimpleNamespace(message=message, finish_reason="stop")],
            usage={"prompt_tokens": 1, "completion_tokens": 1},
            model="m",
        )

    def copy(self, **kwargs: Any) -> PlainLM:
        copied: Any = super().copy(**kwargs)
        copied.errors = self.errors
        return copied


@pytest.mark.parametrize("name", ERRORS)
async def test_a_call_that_can_not_be_sent_is_no_score_and_pauses_the_run_with_one_warning(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = ERRORS[name]
    errors = [error]
    lm = PlainLM(errors)
    config = small_config(
        tmp_path / "simba.db",
        lm=lm,
        metric=says_red,
        prompt_model=lm,
        run_id="run",
        governor=Governor(retry=Retry(attempts=3, base=0.001, longest=0.01, grace_period=0.1)),
    )
    async with Optimizer.start(config) as optimizer:
        paused = await reach(optimizer, RunPaused)
        assert str(error) in paused.reason
        async with await Reader.open(config.store) as reader:
            assert await reader.scores("run") == []
        assert [str(error) in warning for warning in logged_by(caplog, "simba_actors")] == [True]
        errors.clear()
        await optimizer.resume()
        result = await optimizer.result(PATIENCE)
    assert result.score > 0


@pytest.mark.parametrize("name", ERRORS)
async def test_a_rule_writer_that_can_not_be_called_pauses_the_run(name: str, tmp_path: Path) -> None:
    error = ERRORS[name]
    writer = PlainLM([error])
    config = small_config(
        tmp_path / "simba.db",
        prompt_model=writer,
        strategies=[AppendARule()],
        run_id="run",
        governor=Governor(retry=Retry(attempts=3, base=0.001, longest=0.01, grace_period=0.1)),
    )
    async with Optimizer.start(config) as optimizer:
        paused = await reach(optimizer, RunPaused)
    assert str(error) in paused.reason


async def test_rollouts_that_get_no_thread_are_no_score_and_pause_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_in_thread = Threads.run

    async def no_thread(threads: Threads, call: Any) -> Any:
        if current_rollout() is not None:
            raise RuntimeError("can't start new thread")
        return await run_in_thread(threads, call)

    config = small_config(
        tmp_path / "simba.db",
        lm=PlainLM([]),
        metric=says_red,
        run_id="run",
        governor=Governor(retry=Retry(attempts=3, base=0.001, longest=0.01, grace_period=0.1)),
    )
    with monkeypatch.context() as patch:
        patch.setattr(Threads, "run", no_thread)
        optimizer = await Optimizer.start(config)
        paused = await reach(optimizer, RunPaused)
    async with optimizer:
        async with await Reader.open(config.store) as reader:
            assert await reader.scores("run") == []
        assert "can't start new thread" in paused.reason
        await optimizer.resume()
        assert (await optimizer.result(PATIENCE)).score == 1.0
