"""A student runs here as it runs in DSPy: same requests, same predictions, same traces, scores and errors."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Channel, LiveProgram
from simba_actors.dspy_compat.predictor_names import PredictorNames
from simba_actors.evaluation.executor import LocalExecutor, RolloutTask
from simba_actors.lm.governor import Governor
from simba_actors.programs import ConfigurationSpace
from simba_actors.programs.values import json_fields, to_json_value
from tests.evaluation.corpus import KINDS, Kind, recorded_lm

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*prefix.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Passing OpenAI-style:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:DeprecationWarning"),
]

kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@dataclass(frozen=True)
class Ran:
    """The outcome of one run."""

    requests: list[str]
    prediction: Any = None
    trace: Any = None
    score: Any = None
    error: str | None = None


class Setting:
    """A student of a kind, with LMs that record what they are sent."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.requests: list[str] = []
        self.lm = self.make_lm("default")
        self.student: Any = kind.make(self.make_lm)
        self.settings = kind.settings(self.make_lm)
        self.requests.clear()  # Some students are compiled first.
        self.example = dspy.Example(**kind.inputs, label="x").with_inputs(*kind.inputs)

    def make_lm(self, name: str) -> Any:
        return recorded_lm(self.requests, self.kind.say, f"corpus/{name}")

    def ran(self, **what: Any) -> Ran:
        return Ran(self.requests if self.kind.in_order else sorted(self.requests), **what)


def metric(example: dspy.Example, prediction: Any, trace: Any = None) -> float:
    return float(len(str(to_json_value(prediction))))


def by_dspy(kind: Kind) -> Ran:
    setting, trace = Setting(kind), list[Any]()
    student = setting.student
    names = PredictorNames(student)
    try:
        with dspy.context(lm=setting.lm, trace=trace, **setting.settings):
            prediction = asyncio.run(student.acall(**kind.inputs)) if kind.asynchronous else student(**kind.inputs)
    except Exception as error:
        return setting.ran(trace=_steps(trace, names), score=0.0, error=f"{type(error).__name__}: {error}")
    return setting.ran(
        prediction=json_fields(prediction), trace=_steps(trace, names), score=metric(setting.example, prediction)
    )


def _steps(trace: list[Any], names: PredictorNames) -> list[Any]:
    steps = [(names.of(p), json_fields(inputs), json_fields(outputs)) for p, inputs, outputs in trace]
    return [step for step in steps if step[0] is not None]


def by_executor(kind: Kind) -> Ran:
    setting = Setting(kind)

    async def run() -> Any:
        space = ConfigurationSpace.from_module(setting.student)
        with dspy.context(**setting.settings):
            executor = LocalExecutor(
                student=setting.student,
                space=space,
                examples={"train": [setting.example]},
                metric=metric,
                lms={"student": setting.lm},
                governor=Governor(),
            )
        return await executor.run(RolloutTask(space.extract(setting.student), 0))

    trajectory = asyncio.run(run())
    trace = [(step.predictor, dict(step.inputs), dict(step.outputs)) for step in trajectory.trace]
    return setting.ran(prediction=trajectory.prediction, trace=trace, score=trajectory.score, error=trajectory.error)


async def publish(student: Any, store: Path) -> None:
    """Publish the student's own configuration, so that live programs run a copy of it."""
    async with await Channel.open(store, "default") as channel:
        configuration = ConfigurationSpace.from_module(student).extract(student)
        await channel.publish(configuration, expected=0, reason="as it is")


def by_live_program(kind: Kind, store: Path, *, asynchronous: bool) -> Ran:
    setting, trace = Setting(kind), list[Any]()
    asyncio.run(publish(setting.student, store))
    live = LiveProgram(setting.student, store=store)
    names = PredictorNames(setting.student)
    try:
        with dspy.context(lm=setting.lm, trace=trace, **setting.settings):
            prediction = asyncio.run(live.acall(**kind.inputs)) if asynchronous else live(**kind.inputs)
    except Exception as error:
        return setting.ran(trace=_steps(trace, names), score=0.0, error=f"{type(error).__name__}: {error}")
    finally:
        assert live.version == 1
        live.close()
    return setting.ran(
        prediction=json_fields(prediction), trace=_steps(trace, names), score=metric(setting.example, prediction)
    )


def sorted_trace(ran: Ran, kind: Kind) -> Any:
    return ran.trace if kind.in_order else sorted(ran.trace, key=str)


@kinds
def test_the_executor_runs_it_as_dspy_does(kind: Kind) -> None:
    ours, theirs = by_executor(kind), by_dspy(kind)
    assert ours.requests == theirs.requests
    assert sorted_trace(ours, kind) == sorted_trace(theirs, kind)
    assert (ours.prediction, ours.score, ours.error) == (theirs.prediction, theirs.score, theirs.error)


WAYS = [
    pytest.param(kind, asynchronous, id=f"{kind.name}-{'acall' if asynchronous else 'call'}")
    for kind in KINDS
    for asynchronous in (False, True)
    if asynchronous or kind.name not in ("ReAct with an async tool", "streaming")  # DSPy runs these by acall only.
]


@pytest.mark.parametrize(("kind", "asynchronous"), WAYS)
def test_a_live_program_runs_it_as_dspy_does(kind: Kind, asynchronous: bool, tmp_path: Path) -> None:
    ours, theirs = by_live_program(kind, tmp_path / "simba.db", asynchronous=asynchronous), by_dspy(kind)
    assert ours.requests == theirs.requests
    assert sorted_trace(ours, kind) == sorted_trace(theirs, kind)
    assert (ours.prediction, ours.score, ours.error) == (theirs.prediction, theirs.score, theirs.error)
