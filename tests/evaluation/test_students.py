"""A rollout leaves no trace in the student, the examples or other rollouts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import dspy
import pytest

from simba_actors.errors import InterpreterError
from simba_actors.evaluation.binding import PROGRAMS_KEPT
from simba_actors.evaluation.executor import LocalExecutor, RolloutTask
from simba_actors.lm.governor import Caller, Governor
from simba_actors.programs import ConfigurationSpace
from simba_actors.programs.configuration import json_problem
from simba_actors.search.rollout import ModelSpec, Outcome, Trajectory
from simba_actors.strategies.append_a_demo import cut
from tests.support.quiz import exact, questions
from tests.support.scripted_lm import Ask, Script, ScriptedLM


def first_answer(ask: Ask) -> dict[str, Any]:
    return {"answer": questions(1)[0].answer}


async def run_all(
    student: Any,
    rows: list[dspy.Example],
    *,
    script: Script = first_answer,
    metric: Callable[..., Any] = exact,
    model: ModelSpec | None = None,
    caller: Caller | None = None,
    optimize: list[str] | None = None,
) -> list[Trajectory]:
    space = ConfigurationSpace.from_module(student, optimize=optimize)
    executor = LocalExecutor(
        student=student,
        space=space,
        examples={"train": rows},
        metric=metric,
        lms={"student": ScriptedLM(script)},
        governor=Governor(),
        caller=caller,
    )
    program = space.extract(student)
    tasks = [RolloutTask(program, example, model or ModelSpec()) for example in range(len(rows))]
    return await asyncio.gather(*(executor.run(task) for task in tasks))


class Memory:
    def __init__(self) -> None:
        self.notes: list[str] = []


class Noting(dspy.Module):
    """Keeps state on itself in several attributes, besides an object that can't be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.lock = threading.Lock()
        self.notes: list[str] = []
        self.deep: dict[str, list[str]] = {"notes": []}
        self.memory = Memory()

    def note(self, text: str) -> int:
        self.notes.append(text)
        self.deep["notes"].append(text)
        self.memory.notes.append(text)
        self.ask.demos.append(dspy.Example(question=text, answer="x"))
        return max(len(self.notes), len(self.deep["notes"]), len(self.memory.notes), len(self.ask.demos))

    def forward(self, question: str) -> dspy.Prediction:
        return dspy.Prediction(answer=self.ask(question=question).answer, notes=self.note(question))


class NotingOnLoop(Noting):
    async def aforward(self, question: str) -> dspy.Prediction:
        return dspy.Prediction(answer=(await self.ask.acall(question=question)).answer, notes=self.note(question))


@pytest.mark.parametrize("kind", [Noting, NotingOnLoop])
async def test_what_a_student_keeps_on_itself_reaches_no_other_rollout(kind: type[Noting]) -> None:
    student = kind()
    trajectories = await run_all(student, questions(12))
    assert [(trajectory.prediction or {})["notes"] for trajectory in trajectories] == [1] * 12
    assert (student.notes, student.deep, student.memory.notes, student.ask.demos) == ([], {"notes": []}, [], [])


class Remembering(dspy.Module):
    """Appends to an input, as students that keep a conversation do."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question, history: list[str] -> answer")

    def forward(self, question: str, history: list[str]) -> Any:
        history.append(question)
        return self.ask(question=question, history=history)


async def test_inputs_that_a_student_or_a_metric_changes_are_copies() -> None:
    row: Any = dspy.Example(question="?", history=["before"], answer="x").with_inputs("question", "history")

    def metric(example: Any, prediction: Any) -> float:
        example.history.append("scored")
        example.answer = prediction.answer
        return float(len(example.history))

    trajectories = await run_all(Remembering(), [row, row], metric=metric)
    assert [trajectory.score for trajectory in trajectories] == [2.0, 2.0]
    assert row.toDict() == {"question": "?", "history": ["before"], "answer": "x"}


class Judged(dspy.Module):
    """Calls an LM that is not a predictor's, with `dspy.context` and directly."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lms = {"cheap": lm}
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        with dspy.context(lm=self.lms["cheap"]):
            self.ask(question=question)
        self.lms["cheap"](question)
        return self.ask(question=question)


async def test_an_lm_that_is_kept_as_an_attribute_is_governed_and_counted() -> None:
    counted: list[int] = []

    async def count(_size: Any) -> None:
        counted.append(1)

    cheap = ScriptedLM(first_answer)
    (trajectory,) = await run_all(Judged(cheap), questions(1), caller=Caller(before_call=count))
    assert (trajectory.usage.calls, len(counted), len(cheap.asks)) == (3, 3, 2)
    assert cheap.history == []


class Reading(dspy.Module):
    """Answers with what its copies saw."""

    def __init__(self) -> None:
        super().__init__()
        self.best = dspy.BestOfN(dspy.ChainOfThought("question -> answer"), 2, lambda args, prediction: 1.0, 1.0)

    def forward(self, question: str) -> Any:
        return self.best(question=question)


@pytest.mark.parametrize(
    "make",
    [
        Reading,
        lambda: dspy.BestOfN(dspy.Predict("question -> answer"), 2, lambda args, prediction: 1.0, 1.0),
        lambda: dspy.Refine(dspy.Predict("question -> answer"), 2, exact_reward, 1.0),
    ],
    ids=["nested", "BestOfN", "Refine"],
)
async def test_steps_of_copies_that_a_student_makes_have_the_predictors_name(make: Callable[[], Any]) -> None:
    student = make()
    (trajectory,) = await run_all(student, questions(1), script=lambda ask: {"answer": "red", "reasoning": "so"})
    assert [step.predictor for step in trajectory.trace] == [name for name, _ in student.named_predictors()]


def exact_reward(args: Any, prediction: Any) -> float:
    return 1.0


async def test_predictors_that_are_not_optimized_keep_their_lm_and_are_not_in_the_trace() -> None:
    class TwoSteps(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hint = dspy.Predict("question -> hint")
            self.answer = dspy.Predict("question, hint -> answer")

        def forward(self, question: str) -> Any:
            return self.answer(question=question, hint=self.hint(question=question).hint)

    temperatures: list[float | None] = []

    def script(ask: Ask) -> dict[str, Any]:
        temperatures.append(ask.temperature)
        return dict.fromkeys(ask.fields, "red")

    (trajectory,) = await run_all(
        TwoSteps(),
        questions(1),
        script=script,
        model=ModelSpec(rollout_id=1, temperature=0.7),
        optimize=["answer"],
    )
    assert [step.predictor for step in trajectory.trace] == ["answer"]
    assert temperatures == [None, 0.7]


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:DeprecationWarning")
async def test_a_code_interpreter_that_can_not_run_is_the_infrastructures_fault() -> None:
    def missing() -> Any:
        raise dspy.CodeInterpreterError("Unable to determine the Deno version.")

    student = dspy.ProgramOfThought("question -> answer", interpreter_factory=missing)
    with pytest.raises(InterpreterError, match=r"can't run: .*Unable to determine the Deno version"):
        await run_all(student, questions(1), script=lambda ask: dict.fromkeys(ask.fields, "1"))


async def test_images_stay_whole_in_demos() -> None:
    class Look(dspy.Signature):
        image: dspy.Image = dspy.InputField()
        answer: str = dspy.OutputField()

    image = dspy.Image("data:image/png;base64," + "A" * 120_000)
    row = dspy.Example(image=image, answer="red").with_inputs("image")
    (trajectory,) = await run_all(dspy.Predict(Look), [row], script=lambda ask: {"answer": "red"})
    student: Any = dspy.Predict(Look)
    space = ConfigurationSpace.from_module(student)
    demo = {**cut(trajectory.trace[0].inputs, 100_000), **trajectory.trace[0].outputs}
    program: Any = space.apply(space.extract(student).with_demos("self", [demo]), student)
    assert program.demos[0].image == image


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Failing(dspy.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.error = error

    async def aforward(self, question: str) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error", [MuteError(), GeneratorExit(), ValueError("half \ud83d")], ids=lambda e: type(e).__name__
)
async def test_whatever_a_student_raises_is_its_failure_with_a_text(error: BaseException) -> None:
    (trajectory,) = await run_all(Failing(error), questions(1))
    assert (trajectory.outcome, trajectory.score) == (Outcome.PROGRAM_FAILURE, 0.0)
    assert (trajectory.error or "").encode().decode()


async def test_a_reply_that_is_nested_without_end_is_kept_as_far_as_json_goes() -> None:
    row = dspy.Example(q="?", a=[]).with_inputs("q")
    (trajectory,) = await run_all(
        dspy.Predict("q -> a: list"),
        [row],
        script=lambda ask: {"a": "[" * 300 + "]" * 300},
        metric=lambda example, prediction: 1.0,
    )
    assert trajectory.outcome is Outcome.SCORED
    assert json_problem(trajectory.prediction) is None


GLOBAL_LM = ScriptedLM(first_answer)


class CallsAGlobalLM(dspy.Module):
    """Calls LMs that it does not hold: a global one, and one that it makes on the spot."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        with dspy.context(lm=GLOBAL_LM):
            self.ask(question=question)
        GLOBAL_LM(question)
        ScriptedLM(first_answer, asks=GLOBAL_LM.asks)(question)
        return self.ask(question=question)


class CallsAGlobalLMOnLoop(CallsAGlobalLM):
    async def aforward(self, question: str) -> Any:
        with dspy.context(lm=GLOBAL_LM):
            await self.ask.acall(question=question)
        await GLOBAL_LM.acall(question)
        await ScriptedLM(first_answer, asks=GLOBAL_LM.asks).acall(question)
        return await self.ask.acall(question=question)


@pytest.mark.parametrize("kind", [CallsAGlobalLM, CallsAGlobalLMOnLoop])
async def test_an_lm_that_a_student_reaches_by_itself_is_governed_and_counted(kind: type[CallsAGlobalLM]) -> None:
    counted: list[int] = []
    GLOBAL_LM.asks.clear()
    GLOBAL_LM.history.clear()

    async def count(_size: Any) -> None:
        counted.append(1)

    (trajectory,) = await run_all(kind(), questions(1), caller=Caller(before_call=count))
    assert (trajectory.usage.calls, len(counted), len(GLOBAL_LM.asks)) == (4, 4, 3)
    assert len(GLOBAL_LM.history) == 2


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_judge_in_the_metric_is_governed_and_counted(asynchronous: bool) -> None:
    counted: list[int] = []
    judge = dspy.Predict("question -> answer")

    async def count(_size: Any) -> None:
        counted.append(1)

    def metric(example: Any, prediction: Any) -> float:
        with dspy.context(lm=GLOBAL_LM):
            return float(judge(question=example.question).answer == prediction.answer)

    async def metric_on_loop(example: Any, prediction: Any) -> float:
        with dspy.context(lm=GLOBAL_LM):
            return float((await judge.acall(question=example.question)).answer == prediction.answer)

    (trajectory,) = await run_all(
        dspy.Predict("question -> answer"),
        questions(1),
        metric=metric_on_loop if asynchronous else metric,
        caller=Caller(before_call=count),
    )
    assert (trajectory.score, trajectory.usage.calls, len(counted)) == (1.0, 2, 2)


async def test_an_lm_that_is_called_outside_of_a_rollout_is_not_touched() -> None:
    await run_all(dspy.Predict("question -> answer"), questions(1))
    GLOBAL_LM.history.clear()
    assert "answer" in (await GLOBAL_LM.acall("Respond with `answer`."))[0]
    assert len(GLOBAL_LM.history) == 1


async def test_no_judge_is_called_while_the_metric_is_tried() -> None:
    student, judge = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
    asked: list[int] = []

    def metric(example: Any, prediction: Any) -> float:
        asked.append(1)
        with dspy.context(lm=GLOBAL_LM):
            return float(judge(question=example.question).answer == prediction.answer)

    GLOBAL_LM.asks.clear()
    executor = LocalExecutor(
        student=student,
        space=ConfigurationSpace.from_module(student),
        examples={"train": questions(1)},
        metric=metric,
        lms={"student": ScriptedLM(first_answer)},
        governor=Governor(),
    )
    await executor.try_metric()
    assert (len(asked), GLOBAL_LM.asks) == (1, [])


async def test_more_configurations_than_are_kept_take_turns() -> None:
    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(student)
    executor = LocalExecutor(
        student=student,
        space=space,
        examples={"train": questions(1)},
        metric=exact,
        lms={"student": ScriptedLM(first_answer)},
        governor=Governor(),
    )
    own = space.extract(student)
    programs = [own.with_instructions("self", f"Answer {number}.") for number in range(PROGRAMS_KEPT + 1)]
    for program in [*programs, *programs]:
        assert (await executor.run(RolloutTask(program, 0))).outcome is Outcome.SCORED
