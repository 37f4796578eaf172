"""Whole runs of legitimate students, inputs and errors that are unlike any other."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

from simba_actors import Budget
from simba_actors.lm.governor import Governor
from simba_actors.lm.retry import Retry
from simba_actors.search.evidence import Score
from simba_actors.store import Reader
from simba_actors.strategies import AppendADemo
from tests.support.quiz import questions
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE


class Asks(dspy.Module):
    """Does what `dspy.Predict` does, in a different way in each subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


class WithSlots(Asks):
    __slots__ = ("asked",)

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def forward(self, question: str) -> Any:
        self.asked.append(question)
        assert self.asked == [question], "another rollout's"
        return super().forward(question)


@dataclass(eq=True)
class ADataclass(dspy.Module):
    ask: Any = field(default_factory=lambda: dspy.Predict("question -> answer"))

    def __post_init__(self) -> None:
        super().__init__()

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


class InAThread(Asks):
    def forward(self, question: str) -> Any:
        answers: list[Any] = []
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: answers.append(context.run(self.ask, question=question)))
        thread.start()
        thread.join(PATIENCE)
        return answers[0]


class OnItsOwnLoop(Asks):
    def forward(self, question: str) -> Any:
        return asyncio.run(self.ask.acall(question=question))


class InAWorkerThread(Asks):
    async def aforward(self, question: str) -> Any:
        return await asyncio.to_thread(self.ask, question=question)


class Gathers(Asks):
    async def aforward(self, question: str) -> Any:
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(self.ask.acall(question=question))
            group.create_task(asyncio.sleep(0))
        return answer.result()


class CancelsATask(Asks):
    async def aforward(self, question: str) -> Any:
        task = asyncio.create_task(asyncio.sleep(3600))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await self.ask.acall(question=question)


class TimesOut(Asks):
    async def aforward(self, question: str) -> Any:
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(3600)
        except TimeoutError:
            return await self.ask.acall(question=question)


class NotComparable(Asks):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not to be compared")


class Empty(Asks):
    def __len__(self) -> int:
        return 0


class HasEverything(Asks):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return f"a magic {name}"


class Guarded(Asks):
    @property
    def secret(self) -> str:
        raise RuntimeError("not to be read")


class Single:
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("there is one")


class HoldsWhatCanNotBeCopied(Asks):
    def __init__(self) -> None:
        super().__init__()
        self.single = Single()


class SetsAContextVariable(Asks):
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="")

    def forward(self, question: str) -> Any:
        assert not self.seen.get(), "another rollout's"
        self.seen.set(question)
        return super().forward(question)


class ReturnsASubclass(Asks):
    def forward(self, question: str) -> Any:
        class Answer(dspy.Prediction):
            pass

        return Answer(answer=super().forward(question).answer)


class ChangesItself(Asks):
    def forward(self, question: str) -> Any:
        assert not self.ask.demos or self.ask.demos[-1].question != "changed", "another rollout's"
        answer = super().forward(question)
        signature: Any = self.ask.signature
        self.ask.signature = signature.with_instructions(question)
        self.ask.demos.append(dspy.Example(question="changed", answer="changed"))
        self.another = dspy.Predict("question -> answer")
        return answer


class DeletesItsPredictor(Asks):
    def forward(self, question: str) -> Any:
        answer = super().forward(question)
        del self.ask
        return answer


class LeavesATaskBehind(Asks):
    async def aforward(self, question: str) -> Any:
        self.task = asyncio.create_task(asyncio.sleep(3600))
        return await self.ask.acall(question=question)


class SaysNoneToEverything(Asks):
    def __getattr__(self, name: str) -> Any:
        return None


class HoldsItsPredictorManyTimes(Asks):
    def __init__(self) -> None:
        super().__init__()
        self.held = [[self.ask, [self.ask]], (self.ask,), {"ask": self.ask}]

    def forward(self, question: str) -> Any:
        nested: Any = self.held[0]
        return nested[1][0](question=question)


class HasAnAttributeNamedPredictors(dspy.Module):
    """Hides DSPy's own method, which neither `dspy.SIMBA` nor `dspy.Evaluate` calls."""

    predictors: Any

    def __init__(self) -> None:
        super().__init__()
        self.predictors = [dspy.Predict("question -> answer")]

    def forward(self, question: str) -> Any:
        return self.predictors[0](question=question)


STUDENTS: list[Callable[[], Any]] = [
    WithSlots,
    ADataclass,
    InAThread,
    OnItsOwnLoop,
    InAWorkerThread,
    Gathers,
    CancelsATask,
    TimesOut,
    NotComparable,
    Empty,
    HasEverything,
    Guarded,
    HoldsWhatCanNotBeCopied,
    SetsAContextVariable,
    ReturnsASubclass,
    ChangesItself,
    DeletesItsPredictor,
    LeavesATaskBehind,
    SaysNoneToEverything,
    HoldsItsPredictorManyTimes,
    HasAnAttributeNamedPredictors,
]


def scores_of(student: Any, store: Path, **changes: Any) -> list[Score]:
    """Return the scores of a short run."""
    settings = {"strategies": [AppendADemo()], "max_steps": 1, "run_id": "run", **changes}
    config = small_config(store, student=student, **settings)

    async def run() -> list[Score]:
        await finish(config)
        async with await Reader.open(store) as reader:
            return await reader.scores("run")

    return asyncio.run(run())


@pytest.fixture(scope="module")
def usual_scores(tmp_path_factory: pytest.TempPathFactory) -> list[Score]:
    return scores_of(Asks(), tmp_path_factory.mktemp("usual") / "simba.db")


@pytest.mark.parametrize("make", STUDENTS, ids=lambda make: make.__name__)
def test_an_odd_student_scores_as_a_usual_one(make: Any, usual_scores: list[Score], tmp_path: Path) -> None:
    assert scores_of(make(), tmp_path / "simba.db") == usual_scores


class TextlessError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class UnpicklableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(threading.Lock())

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


class NotAnException(BaseException):
    pass


ERRORS: list[Callable[[], BaseException]] = [
    TextlessError,
    lambda: UnpicklableError(1, 2),
    NotAnException,
    lambda: SystemExit(2),
    asyncio.CancelledError,
    GeneratorExit,
    lambda: BaseExceptionGroup("both", [NotAnException(), ValueError()]),
    StopIteration,
]


class Raises(Asks):
    """Raises a different error for three of four examples, in a thread or on the loop."""

    def error(self, question: str) -> BaseException | None:
        number = int("".join(filter(str.isdigit, question)))
        return None if number % 4 == 0 else ERRORS[number % len(ERRORS)]()

    def forward(self, question: str) -> Any:
        error = self.error(question)
        if error is not None:
            raise error
        return super().forward(question)


class RaisesOnLoop(Raises):
    async def aforward(self, question: str) -> Any:
        error = self.error(question)
        if error is not None:
            raise error
        return await self.ask.acall(question=question)


@pytest.mark.parametrize("make", [Raises, RaisesOnLoop])
def test_whatever_a_student_raises_scores_0(make: Any, tmp_path: Path) -> None:
    rows = questions(8)
    scores = scores_of(make(), tmp_path / "simba.db", trainset=rows, metric=lambda example, prediction: 1.0)
    by_example = {score.example: score.score for score in scores}
    assert by_example == {number: float(number % 4 == 0) for number in range(8)}


class OutOfMemory(Asks):
    def forward(self, question: str) -> Any:
        if " 3?" in question:
            raise MemoryError
        return super().forward(question)


def test_a_machine_without_memory_is_no_score(tmp_path: Path) -> None:
    governor = Governor(retry=Retry(base=0.001, longest=0.002))
    scores = scores_of(OutOfMemory(), tmp_path / "simba.db", governor=governor)
    assert {score.example for score in scores} == set(range(8)) - {3}


class Colour(enum.Enum):
    RED = 1


class Nested(pydantic.BaseModel):
    within: Nested | None = None


class Odd(dspy.Signature):
    question: str = dspy.InputField()
    when: dt.datetime = dspy.InputField()
    colour: Colour = dspy.InputField()
    raw: bytes = dspy.InputField()
    nested: Nested = dspy.InputField()
    lock: Any = dspy.InputField()
    number: float = dspy.InputField()
    answer: str = dspy.OutputField()


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
def test_an_input_that_holds_itself_does_not_end_a_run(policy: Any, tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    rows = questions(8)
    rows[3] = dspy.Example(question=circle, answer="red").with_inputs("question")
    assert scores_of(Asks(), tmp_path / "simba.db", trainset=rows, policy=policy, budget=Budget(max_calls=30))


def odd_rows() -> list[dspy.Example]:
    nested = None
    for _ in range(60):
        nested = Nested(within=nested)
    odd = {
        "when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "colour": Colour.RED,
        "raw": b"\xff\x00",
        "nested": nested,
        "lock": threading.Lock(),
        "number": float("nan"),
    }
    return [dspy.Example(**row, **odd).with_inputs("question", *odd) for row in questions(8)]


def test_inputs_of_any_type_are_passed_on_and_stored(tmp_path: Path) -> None:
    rows = odd_rows()
    lm = ScriptedLM(lambda ask: {"answer": rows[0].answer})
    scores = scores_of(dspy.Predict(Odd), tmp_path / "simba.db", trainset=rows, lm=lm)
    assert {score.example: score.score for score in scores}[0] == 1.0
