"""A pause has a reason, is one line in the log, and ends an endless wait for the result."""

from __future__ import annotations

import asyncio
import copy
import pickle
from pathlib import Path
from typing import Any, cast

import dspy
import pytest
from dspy.utils.exceptions import LMAuthError, LMServerError

from simba_actors import SIMBA, Governor, Optimizer, OptimizerConfig, Retry
from simba_actors.errors import MetricError, RunPausedError
from simba_actors.events import RunFinished, RunPaused, RunResumed, RunWaiting, TrajectorySampled
from simba_actors.team import run_state
from simba_actors.team.messages import COORDINATOR, Resume
from tests.support.command_line import run_command
from tests.support.logs import logged_by
from tests.support.quiz import exact, questions, quiz_script
from tests.support.runs import finish, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import PATIENCE


class Provider:
    """An LM that refuses every call while it has an `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def __call__(self, ask: Ask) -> Any:
        if self.error is not None:
            raise self.error
        return quiz_script(ask)


def config_for(store: Path, provider: Provider, **changes: Any) -> OptimizerConfig:
    lm = ScriptedLM(provider)
    settings: dict[str, Any] = {"lm": lm, "prompt_model": lm, "max_concurrency": 1}
    return small_config(store, run_id="run", **(settings | changes))


async def test_a_result_is_not_awaited_for_ever_while_a_key_is_refused(tmp_path: Path) -> None:
    provider = Provider(LMAuthError("no such key"))
    async with Optimizer.start(config_for(tmp_path / "simba.db", provider)) as optimizer:
        with pytest.raises(RunPausedError, match="no such key"):
            await optimizer.result(PATIENCE)
        provider.error = None
        await optimizer.resume()
        assert (await optimizer.result(PATIENCE)).run_id == "run"


def test_compile_raises_why_it_is_paused(tmp_path: Path) -> None:
    lm = ScriptedLM(Provider(LMAuthError("no such key")))
    simba = SIMBA(metric=exact, bsize=3, num_candidates=2, max_steps=1, lm=lm, prompt_model=lm, num_threads=1)
    with pytest.raises(RunPausedError, match="no such key"):
        simba.compile(dspy.Predict("question -> answer"), trainset=questions(8))


async def test_a_result_is_awaited_while_the_user_has_paused_the_run(tmp_path: Path) -> None:
    async with Optimizer.start(config_for(tmp_path / "simba.db", Provider())) as optimizer:
        await reach(optimizer, TrajectorySampled)
        await optimizer.pause()
        waiting = asyncio.ensure_future(optimizer.result(PATIENCE))
        await asyncio.sleep(0)
        assert not waiting.done()
        await optimizer.resume()
        assert (await waiting).run_id == "run"


async def test_a_pause_for_access_is_one_warning_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Provider(LMAuthError("no such key"))
    async with Optimizer.start(config_for(tmp_path / "simba.db", provider, max_concurrency=4)) as optimizer:
        paused = await reach(optimizer, RunPaused)
    warnings = logged_by(caplog, "simba_actors")
    assert paused.cause == "access"
    assert [("no such key" in text, "resumed" in text) for text in warnings] == [(True, True)]


async def test_a_run_with_resume_after_resumes_by_itself(tmp_path: Path) -> None:
    provider = Provider(LMAuthError("no such key"))
    async with Optimizer.start(config_for(tmp_path / "simba.db", provider, resume_after=0.05)) as optimizer:
        result = asyncio.ensure_future(optimizer.result(PATIENCE))
        await reach(optimizer, RunPaused)
        provider.error = None
        assert (await result).run_id == "run"
        assert (await reach(optimizer, RunResumed)).by == "resume_after"


async def test_a_run_that_the_user_paused_during_an_outage_does_not_resume_by_itself(tmp_path: Path) -> None:
    provider = Provider(LMAuthError("no such key"))
    async with Optimizer.start(config_for(tmp_path / "simba.db", provider, resume_after=3_600)) as optimizer:
        await reach(optimizer, RunPaused)
        await optimizer.pause("to look at it")
        epoch = optimizer._run.gate.pausing.epoch
        await optimizer._run.teammates.via(COORDINATOR).call(Resume("resume_after", epoch))
        status = await optimizer.status()
    assert (status.status, status.reason) == ("paused", "to look at it")


async def test_a_run_whose_coordinator_crashes_in_a_pause_still_resumes_by_itself(tmp_path: Path) -> None:
    provider = Provider(LMAuthError("no such key"))
    async with Optimizer.start(config_for(tmp_path / "simba.db", provider, resume_after=0.2)) as optimizer:
        await reach(optimizer, RunPaused)
        coordinator = optimizer._run.teammates.registry.whereis(COORDINATOR)
        assert coordinator is not None
        coordinator.kill()
        provider.error = None
        assert (await optimizer.result(PATIENCE)).run_id == "run"


async def test_a_run_waits_for_an_endpoint_and_continues_when_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_state, "SILENCE_SECONDS", 0.0)
    provider = Provider(LMServerError("down for maintenance"))
    governor = Governor(retry=Retry(base=0.01, longest=0.01, attempts=10_000))
    async with Optimizer.start(config_for(tmp_path / "simba.db", provider, governor=governor)) as optimizer:
        waiting = await reach(optimizer, RunWaiting)
        assert (await optimizer.status()).status == "waiting"
        provider.error = None
        assert (await reach(optimizer, RunResumed)).by == "endpoint"
        await optimizer.result(PATIENCE)
    assert "down for maintenance" in waiting.reason
    assert sum("waits for an LM" in record.getMessage() for record in caplog.records) == 1


async def test_a_result_that_takes_too_long_says_where_the_run_stands(tmp_path: Path) -> None:
    async with Optimizer.start(config_for(tmp_path / "simba.db", Provider())) as optimizer:
        await optimizer.pause("the price is checked")
        with pytest.raises(TimeoutError, match=r"'run' is paused after 0\.01 s \(the price is checked\) .* resume it"):
            await optimizer.result(timeout=0.01)


class Typo(dspy.Module):
    """A student that fails on every example, or only on those whose question contains `on`."""

    def __init__(self, on: str = "") -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")
        self.on = on

    async def aforward(self, question: str) -> Any:
        if self.on in question:
            raise AttributeError("'Prediction' object has no attribute 'anwser'")
        return await self.answer.acall(question=question)


class Misspelt(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return cast("Any", self).anwser(question=question)


async def test_a_student_that_always_fails_pauses_the_run_after_its_first_samples(tmp_path: Path) -> None:
    config = config_for(tmp_path / "simba.db", Provider(), student=Typo())
    async with Optimizer.start(config) as optimizer:
        with pytest.raises(RunPausedError, match=r"failed on every example of the first step .*'anwser'"):
            await optimizer.result(PATIENCE)
        await optimizer.resume()
        assert (await optimizer.result(PATIENCE)).score == 0.0


class Unreadable(dspy.Module):
    """Raises an error that ends with empty lines, as DSPy's do for a reply that can't be parsed."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        raise ValueError("no field answer\n\n")


async def test_the_reason_of_a_pause_is_one_sentence_after_an_error_that_ends_with_empty_lines(tmp_path: Path) -> None:
    async with Optimizer.start(config_for(tmp_path / "simba.db", Provider(), student=Unreadable())) as optimizer:
        paused = await reach(optimizer, RunPaused)
    assert "no field answer. Fix it and start the run again" in paused.reason


async def test_a_typo_in_forward_is_named_in_the_pause_the_log_and_show(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_for(tmp_path / "simba.db", Provider(), student=Misspelt())
    async with Optimizer.start(config) as optimizer:
        paused = await reach(optimizer, RunPaused)
        shown = await asyncio.to_thread(run_command, ["show", "--store", str(config.store)])
    error = "AttributeError: 'Misspelt' object has no attribute 'anwser'"
    warnings = logged_by(caplog, "simba_actors")
    assert paused.cause == "failures"
    assert error in paused.reason
    assert any("paused" in text and error in text for text in warnings)
    assert error in shown.stdout


async def test_a_metric_that_raises_is_one_warning_with_the_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def strict(example: Any, prediction: Any) -> float:
        raise ValueError("no such grade")

    async with Optimizer.start(config_for(tmp_path / "simba.db", Provider(), metric=strict)) as optimizer:
        with pytest.raises(MetricError):
            await optimizer.result(PATIENCE)
    (warning,) = logged_by(caplog, "simba_actors")
    assert "run 'run' has failed" in warning
    assert "no such grade" in warning
    assert "started again with the metric corrected, or with on_metric_error='score 0'" in warning


async def test_the_first_failure_of_each_kind_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await finish(config_for(tmp_path / "simba.db", Provider(), student=Typo(on="ball 3?")))
    warnings = [record.getMessage() for record in caplog.records if "has no attribute 'anwser'" in record.getMessage()]
    assert len(warnings) == 1


async def test_the_event_of_a_failed_sample_has_its_error(tmp_path: Path) -> None:
    config = config_for(tmp_path / "simba.db", Provider(), student=Typo())
    async with Optimizer.start(config) as optimizer:
        sampled = await reach(optimizer, TrajectorySampled)
    assert sampled.error == "AttributeError: 'Prediction' object has no attribute 'anwser'"


async def test_an_optimizer_that_was_awaited_is_stopped_by_hand(tmp_path: Path) -> None:
    optimizer = await Optimizer.start(config_for(tmp_path / "simba.db", Provider()))
    await reach(optimizer, RunFinished)
    await optimizer.stop()


async def test_an_optimizer_made_by_hand_names_start(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"await Optimizer\.start\(config\)"):
        Optimizer(config_for(tmp_path / "simba.db", Provider()))


async def test_an_optimizer_that_is_copied_or_pickled_says_why_it_can_not_be(tmp_path: Path) -> None:
    async with Optimizer.start(config_for(tmp_path / "simba.db", Provider())) as optimizer:
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="belongs to its event loop: pass on its store and run_id"):
                copied(optimizer)


async def test_a_start_that_is_not_awaited_says_so(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="never awaited"):
        Optimizer.start(config_for(tmp_path / "simba.db", Provider()))


async def test_an_optimizer_that_has_not_started_names_the_missing_await(tmp_path: Path) -> None:
    starting: Any = Optimizer.start(config_for(tmp_path / "simba.db", Provider()))
    with pytest.raises(AttributeError, match="has no 'result': write `optimizer = await"):
        starting.result  # noqa: B018
    async with starting:
        pass


async def test_a_call_from_another_loop_is_refused_before_anything_changes(tmp_path: Path) -> None:
    async with Optimizer.start(config_for(tmp_path / "simba.db", Provider())) as optimizer:
        for method in (optimizer.stop, optimizer.pause, optimizer.resume, optimizer.result):
            with pytest.raises(Exception, match="in another event loop than the one"):
                await asyncio.to_thread(lambda: asyncio.run(method()))  # noqa: B023
        assert (await optimizer.result(PATIENCE)).run_id == "run"


async def test_status_may_be_asked_in_another_loop(tmp_path: Path) -> None:
    async with Optimizer.start(config_for(tmp_path / "simba.db", Provider())) as optimizer:
        await optimizer.result(PATIENCE)
        status = await asyncio.to_thread(lambda: asyncio.run(optimizer.status()))
    assert status.status == "finished"


async def test_a_change_is_not_missed_by_whoever_asked_for_it_before_and_waits_for_it_after() -> None:
    gate = run_state.Gate()
    changed = gate.changed()
    gate.pausing.pause("the key was refused", "access")
    async with asyncio.timeout(PATIENCE):
        await changed
