"""How a rollout ends: with a score, as the program's failure, or with an error that is never a score."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from types import FrameType
from typing import Any, TypeVar

import dspy
import pytest

from simba_actors.errors import BudgetReachedError, LMAccessError, LMUnavailableError, RolloutTimeoutError
from simba_actors.evaluation.executor import LocalExecutor, RolloutTask
from simba_actors.lm.governor import Caller, Fault, Governor
from simba_actors.lm.retry import Retry
from simba_actors.lm.rollout_context import current_rollout
from simba_actors.programs import ConfigurationSpace
from simba_actors.runtime.threads import NO_THREAD
from simba_actors.search.rollout import Outcome, Trajectory
from tests.support.limits import no_new_threads
from tests.support.quiz import exact, questions
from tests.support.scripted_lm import Ask, CutOff, Script, ScriptedLM, reply_text
from tests.support.virtual_clock import let_pass
from tests.support.waiting import PATIENCE, until

R = TypeVar("R")

HASTY = Retry(attempts=3, base=0.001, longest=0.002)


def right(ask: Ask) -> dict[str, Any]:
    return {"answer": questions(1)[0].answer}


def raising(error: Exception) -> Script:
    def script(ask: Ask) -> str:
        raise error

    return script


async def rollout(
    student: dspy.Module,
    script: Script,
    *,
    timeout: float = 30.0,
    caller: Caller | None = None,
    metric: Callable[..., Any] = exact,
    latency: float = 0.0,
) -> Trajectory:
    space = ConfigurationSpace.from_module(student)
    executor = LocalExecutor(
        student=student,
        space=space,
        examples={"train": questions(1)},
        metric=metric,
        lms={"student": ScriptedLM(script, latency=latency)},
        governor=Governor(retry=HASTY),
        caller=caller,
        rollout_timeout=timeout,
    )
    return await executor.run(RolloutTask(space.extract(student), 0))


class Large(dspy.Module):
    """Its programs are made in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [dspy.Predict("question -> answer") for _ in range(12)]

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.parts[0].acall(question=question)


async def test_a_large_student_runs_as_a_small_one() -> None:
    assert (await rollout(Large(), right)).score == 1.0


async def test_a_program_that_no_thread_can_make_is_an_infrastructure_failure() -> None:
    with no_new_threads(), pytest.raises(LMUnavailableError, match=NO_THREAD):
        await rollout(Large(), right)


class Streaming(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        stream: Any = dspy.streamify(self.ask)
        return [item async for item in stream(question=question)][-1]


async def test_an_engine_that_cannot_stream_is_named_at_once() -> None:
    calls: list[Ask] = []
    with pytest.raises(LMAccessError, match=r"scripted/lm can't stream.*Give it a `stream` method") as raised:
        await rollout(Streaming(), lambda ask: calls.append(ask) or right(ask))
    assert "key" not in str(raised.value)
    assert calls == []


class Wrapping(dspy.Module):
    """Runs `before`, then calls the LM, whose failure becomes an error of the student's own or an answer."""

    def __init__(self, before: Callable[[], None] = lambda: None, *, swallows: bool = False) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.before = before
        self.swallows = swallows

    def forward(self, question: str) -> dspy.Prediction:
        self.before()
        try:
            return self.ask(question=question)
        except Exception as error:
            if self.swallows:
                return dspy.Prediction(answer="no idea")
            raise RuntimeError("the student gave up") from error


class Asking(dspy.Module):
    """Asks its LM, and hangs if the LM does."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.ask.acall(question=question)


class Blocking(dspy.Module):
    """Calls its LM in a way that blocks the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        return self.ask(question=question)


@pytest.mark.parametrize("cut_off", [True, False])
async def test_a_trajectory_knows_whether_a_reply_was_cut_off(cut_off: bool) -> None:
    def script(ask: Ask) -> str:
        reply = reply_text(ask, right(ask))
        return CutOff(reply) if cut_off else reply

    trajectory = await rollout(dspy.Predict("question -> answer"), script)
    assert trajectory.cut_off is cut_off


async def test_an_answer_is_scored_with_its_trace_and_usage() -> None:
    trajectory = await rollout(dspy.Predict("question -> answer"), right)
    assert (trajectory.outcome, trajectory.score) == (Outcome.SCORED, True)
    assert [step.outputs for step in trajectory.trace] == [{"answer": questions(1)[0].answer}]
    assert trajectory.usage.calls == 1
    assert trajectory.usage.cost is None


async def test_a_trajectory_has_its_steps_in_a_host_where_dspy_keeps_no_trace() -> None:
    with dspy.context(max_trace_size=0):
        trajectory = await rollout(dspy.Predict("question -> answer"), right)
    assert len(trajectory.trace) == 1


async def test_a_reply_that_can_not_be_parsed_is_the_programs_failure() -> None:
    trajectory = await rollout(dspy.Predict("question -> answer"), lambda ask: "I would rather not say.")
    assert (trajectory.outcome, trajectory.score) == (Outcome.PROGRAM_FAILURE, 0.0)
    assert "AdapterParseError" in (trajectory.error or "")


async def test_an_error_of_the_students_own_is_its_failure() -> None:
    def breaks() -> None:
        raise KeyError("typo")

    trajectory = await rollout(Wrapping(breaks), right)
    assert (trajectory.outcome, trajectory.error) == (Outcome.PROGRAM_FAILURE, "KeyError: 'typo'")


async def test_a_stop_iteration_of_a_sync_student_is_its_failure() -> None:
    def breaks() -> None:
        next(iter([]))

    trajectory = await rollout(Wrapping(breaks), right, timeout=10.0)
    assert trajectory.outcome is Outcome.PROGRAM_FAILURE
    assert "StopIteration" in (trajectory.error or "")


class Ending(dspy.Module):
    """Awaits the result of `ends()`."""

    def __init__(self, ends: Callable[[], Awaitable[Any]]) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.ends = ends

    async def aforward(self, question: str) -> Any:
        return await self.ends()


async def cancels_its_own() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    task.cancel()
    await task


async def exits() -> None:
    sys.exit("enough")


@pytest.mark.parametrize(("ends", "message"), [(cancels_its_own, "CancelledError"), (exits, "SystemExit")])
async def test_a_cancellation_or_an_exit_of_the_students_own_is_its_failure(
    ends: Callable[[], Awaitable[Any]], message: str
) -> None:
    trajectory = await rollout(Ending(ends), right)
    assert trajectory.outcome is Outcome.PROGRAM_FAILURE
    assert message in (trajectory.error or "")


async def test_an_exit_of_a_sync_student_is_its_failure() -> None:
    trajectory = await rollout(Wrapping(sys.exit), right)
    assert trajectory.outcome is Outcome.PROGRAM_FAILURE
    assert "SystemExit" in (trajectory.error or "")


async def test_an_error_of_a_signal_handler_is_no_score_of_the_student_that_it_interrupts() -> None:
    class Limited(dspy.Module):
        """Be interrupted once, as by a time limit of the host."""

        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        async def aforward(self, question: str) -> dspy.Prediction:
            signal.raise_signal(signal.SIGUSR1)
            return await self.ask.acall(question=question)

    def interrupt(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise TimeLimitError

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        trajectory = await rollout(Limited(), right)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (trajectory.outcome, trajectory.score) == (Outcome.SCORED, True)


class TimeLimitError(Exception):
    """The exception that a host's signal handler raises."""


async def test_a_cancelled_rollout_ends_as_such() -> None:
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(rollout(Ending(waits), right))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_async_student_that_hangs_is_reported_as_such() -> None:
    with pytest.raises(RolloutTimeoutError):
        await rollout(Ending(lambda: asyncio.Event().wait()), right, timeout=0.05)


async def test_an_error_is_reported_in_text_that_can_be_printed() -> None:
    def breaks() -> None:
        raise ValueError("half a pair: \ud83d")

    assert (await rollout(Wrapping(breaks), right)).error == "ValueError: half a pair: \\ud83d"


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize(
    ("error", "ends_with"),
    [(dspy.LMServerError("down"), LMUnavailableError), (dspy.LMAuthError("refused"), LMAccessError)],
    ids=["down", "refused"],
)
async def test_an_lm_that_fails_is_no_score_whatever_the_student_makes_of_it(
    error: Exception, ends_with: type[Exception], swallows: bool
) -> None:
    with pytest.raises(ends_with):
        await rollout(Wrapping(swallows=swallows), raising(error))


async def test_a_thread_that_hangs_costs_no_more_than_the_timeout() -> None:
    loop, release, runs = asyncio.get_running_loop(), threading.Event(), list[int]()

    def hangs_once() -> None:
        runs.append(1)
        if len(runs) == 1:
            let_pass(PATIENCE, loop)
            release.wait(3600)

    trajectory = await rollout(Wrapping(hangs_once), right, timeout=PATIENCE)
    release.set()
    assert (trajectory.outcome, len(runs)) == (Outcome.SCORED, 2)


async def test_a_student_that_always_hangs_is_reported_in_the_end() -> None:
    release = threading.Event()

    def hangs() -> None:
        release.wait(3600)

    with pytest.raises(RolloutTimeoutError, match=r"longer than rollout_timeout=0.05 s, 3 times in a row"):
        await rollout(Wrapping(hangs), right, timeout=0.05)
    release.set()


async def test_a_rollout_that_waits_for_an_lm_in_vain_names_its_endpoint() -> None:
    with pytest.raises(RolloutTimeoutError, match="scripted/lm hangs") as raised:
        await rollout(Asking(), right, timeout=0.05, latency=3600.0)
    assert raised.value.endpoint == "scripted/lm"


async def test_a_call_that_is_not_answered_in_time_is_reported_before_the_rollout_is_given_up() -> None:
    faults: list[Fault] = []
    with pytest.raises(RolloutTimeoutError):
        await rollout(Asking(), right, timeout=0.05, latency=3600.0, caller=Caller(on_fault=faults.append))
    late = "it did not answer within rollout_timeout=0.05 s"
    assert [(each.endpoint, each.error, each.attempt) for each in faults] == [
        ("scripted/lm", late, 1),
        ("scripted/lm", late, 2),
    ]


async def test_a_call_that_blocks_the_loop_and_fails_names_its_endpoint() -> None:
    with pytest.raises(LMUnavailableError) as raised:
        await rollout(Blocking(), raising(dspy.LMServerError("down")))
    assert raised.value.endpoint == "scripted/lm"


async def test_a_call_that_blocks_the_loop_counts_against_the_budget() -> None:
    def none_left(_size: Any) -> None:
        raise BudgetReachedError("the budget's max_calls=0 is reached", "max_calls")

    with pytest.raises(BudgetReachedError):
        await rollout(Blocking(), right, caller=Caller(before_blocking_call=none_left))


class Parallel(dspy.Module):
    """Calls the LM twice at once, in threads that the event loop waits for, each in a task of its own if `apart`."""

    def __init__(self, *, apart: bool = False) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.apart = apart

    async def aforward(self, question: str) -> Any:
        answers = self._both(question)
        return await (asyncio.create_task(answers) if self.apart else answers)

    async def _both(self, question: str) -> Any:
        example = dspy.Example(question=question).with_inputs("question")
        return self.ask.batch([example, example], num_threads=2, disable_progress_bar=True)[0]


def in_a_loop_of_its_own(work: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Return what `work()` returns, run on a loop that may be blocked for good."""
    ended: Future[R] = Future()

    def run() -> None:
        try:
            ended.set_result(asyncio.run(work()))
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return ended.result(PATIENCE)


@pytest.mark.parametrize("apart", [False, True])
def test_threads_that_the_loop_waits_for_make_their_calls_without_it(apart: bool) -> None:
    counted: list[int] = []
    caller = Caller(before_blocking_call=lambda _size: counted.append(1))
    trajectory = in_a_loop_of_its_own(lambda: rollout(Parallel(apart=apart), right, caller=caller))
    assert (trajectory.outcome, trajectory.usage.calls, len(counted)) == (Outcome.SCORED, 2, 2)


def test_threads_of_an_async_metric_that_the_loop_waits_for_make_their_calls_without_it() -> None:
    judge = dspy.Predict("question -> answer")

    async def judged(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        answers: Any = judge.batch([example, example], num_threads=2, disable_progress_bar=True)
        return all(exact(example, answer) for answer in answers)

    student = dspy.Predict("question -> answer")
    trajectory = in_a_loop_of_its_own(lambda: rollout(student, right, metric=judged))
    assert (trajectory.score, trajectory.usage.calls) == (True, 3)


def test_an_lm_that_fails_in_such_a_thread_is_no_score() -> None:
    with pytest.raises(LMUnavailableError, match="ServerError: down"):
        in_a_loop_of_its_own(lambda: rollout(Parallel(), raising(dspy.LMServerError("down"))))


async def test_an_lm_that_fails_a_call_that_blocks_the_loop_for_a_while_is_asked_again() -> None:
    asked: list[int] = []

    def script(ask: Ask) -> dict[str, Any]:
        asked.append(1)
        if len(asked) == 1:
            raise dspy.LMServerError("down")
        return right(ask)

    assert (await rollout(Blocking(), script)).outcome is Outcome.SCORED


async def test_a_rollout_leaves_nothing_for_the_garbage_collector() -> None:
    rollouts: list[weakref.ref[Any]] = []

    def script(ask: Ask) -> dict[str, Any]:
        rollouts.append(weakref.ref(current_rollout()))
        return right(ask)

    gc.disable()
    try:
        await rollout(dspy.Predict("question -> answer"), script)
        await until(lambda: rollouts[0]() is None)  # The metric's thread may hold it for a moment longer.
    finally:
        gc.enable()
