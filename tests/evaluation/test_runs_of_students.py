"""Whole runs of students that are easy to get wrong: by what they hold, what they override, or how they were set up."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import dspy
import pytest

from simba_actors import LiveProgram, Optimizer, programs
from simba_actors.errors import RunError
from simba_actors.events import StrategyDeclined
from simba_actors.programs import ConfigurationSpace
from simba_actors.publishing.channel import Channel
from simba_actors.store import Reader
from simba_actors.strategies import AppendADemo, AppendARule
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import advice, exact, legible_script, questions, quiz_script
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import PATIENCE


class TwoStages(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = dspy.Predict("question -> search_query")
        self.answer = dspy.ChainOfThought("question, search_query -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, search_query=self.query(question=question).search_query)


def compiled() -> Any:
    """A student whose demos lack fields of their predictors."""
    rows = [dspy.Example(topic="balls", **row.toDict()).with_inputs("question") for row in questions(4)]
    return dspy.LabeledFewShot(k=2).compile(TwoStages(), trainset=rows)


class Client:
    """Can't be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def search(self, query: str) -> str:
        return query


class Agents(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.agents: dict[str, Any] = {"client": Client(), "answer": dspy.Predict("question -> answer")}

    def forward(self, question: str) -> Any:
        return self.agents["answer"](question=question)


class Shout(dspy.Predict):
    def forward(self, **kwargs: Any) -> Any:
        prediction = super().forward(**kwargs)
        prediction.answer = prediction.answer.upper()
        return prediction


def shouted(example: Any, prediction: Any, trace: Any = None) -> bool:
    return prediction.answer == example.answer.upper()


def always(args: Any, prediction: Any) -> float:
    return 1.0


STUDENTS: dict[str, tuple[Callable[[], Any], Any]] = {
    "modules in a dict": (Agents, exact),
    "forward overridden": (lambda: Shout("question -> answer"), shouted),
    "BestOfN": (lambda: dspy.BestOfN(dspy.Predict("question -> answer"), 2, always, 1.0), exact),
}


@pytest.mark.parametrize("name", STUDENTS)
async def test_a_student_gains_demos_and_the_users_own_stays_as_it_was(name: str, tmp_path: Path) -> None:
    make, metric = STUDENTS[name]
    student = make()
    result = await finish(
        small_config(tmp_path / "simba.db", student=student, metric=metric, strategies=[AppendADemo()], bsize=8)
    )
    assert [(predictor.lm, predictor.demos) for predictor in student.predictors()] == [(None, [])]
    assert result.score > 0
    async with await Reader.open(tmp_path / "simba.db") as reader:
        stored: list[Any] = [program.configuration for program in await reader.programs(result.run_id)]
    assert any(demos for configuration in stored for key, demos in dict(configuration).items() if "demos" in key)


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
async def test_a_student_with_demos_without_its_fields_is_optimized(policy: Any, tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db", student=compiled(), policy=policy))
    assert result.program.named_predictors()


def test_a_file_that_dspy_wrote_is_read(tmp_path: Path) -> None:
    student = compiled()
    student.save(str(tmp_path / "program.json"))
    space = ConfigurationSpace.from_module(student)
    assert programs.load(tmp_path / "program.json", TwoStages()) == space.extract(student)


def test_a_file_that_is_written_is_one_that_dspy_reads(tmp_path: Path) -> None:
    student, other = compiled(), TwoStages()
    programs.save(ConfigurationSpace.from_module(student).extract(student), student, tmp_path / "program.json")
    other.load(tmp_path / "program.json")
    space = ConfigurationSpace.from_module(student)
    assert space.extract(other) == space.extract(student)


class Team(dspy.Module):
    """Holds its modules in a dict, and tools that contain objects which can't be copied."""

    def __init__(self) -> None:
        super().__init__()
        client = Client()
        react: Any = dspy.ReAct
        self.agents = {name: react("question -> answer", tools=[client.search], max_iters=1) for name in "ab"}

    def forward(self, question: str) -> Any:
        self.agents["a"](question=question)
        return self.agents["b"](question=question)


def size_of(store: str | Path) -> int:
    return Path(store).stat().st_size


def with_tools(ask: Ask) -> dict[str, Any]:
    if "next_tool_name" in ask.fields:
        return {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": "{}"}
    script: Any = quiz_script if "module_advice" in ask.fields else legible_script
    return script(ask)


async def test_agents_in_a_dict_are_each_programs_own(tmp_path: Path) -> None:
    student: Any = Team()
    lm = ScriptedLM(with_tools)
    before = student.dump_state()
    result = await finish(small_config(tmp_path / "simba.db", student=student, lm=lm, prompt_model=lm))
    programs = [student, *(candidate["program"] for candidate in result.candidate_programs)]
    held = [id(predictor) for program in programs for predictor in program.predictors()]
    assert len(programs) > 2
    assert len(set(held)) == len(held)
    assert (student.dump_state(), [predictor.lm for predictor in student.predictors()]) == (before, [None] * 4)


class Loud(dspy.ChainOfThought):
    def forward(self, **kwargs: Any) -> Any:
        out = cast("Any", super()).forward(**kwargs)
        out.answer = out.answer.upper()
        return out


class Extended(dspy.Predict):
    """Adds an input of its own."""

    def forward(self, **kwargs: Any) -> Any:
        return cast("Any", super()).forward(tone="loud", **kwargs)


def all_known(ask: Ask) -> dict[str, Any]:
    return dict.fromkeys(ask.fields, "red")


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda: Loud("question -> answer"), "RED"),
        (lambda: Extended("question, tone -> answer"), "red"),
    ],
    ids=["overridden forward", "an input more"],
)
async def test_the_forward_that_dspy_runs_is_the_one_that_is_scored_and_served(
    make: Callable[[], Any], answer: str, tmp_path: Path
) -> None:
    def metric(example: Any, prediction: Any) -> float:
        return float(prediction.answer == answer)

    lm = ScriptedLM(all_known)
    result = await finish(
        small_config(tmp_path / "simba.db", student=make(), lm=lm, metric=metric, strategies=[AppendADemo()])
    )
    live: Any = LiveProgram(make(), store=tmp_path / "simba.db")
    with dspy.context(lm=lm):
        answers = [(await live.acall(question="?")).answer, (await asyncio.to_thread(live, question="?")).answer]
    assert (result.score, answers) == (1.0, [answer, answer])


async def test_a_program_with_demos_without_its_fields_is_published_and_served(tmp_path: Path) -> None:
    student = compiled()
    async with await Channel.open(tmp_path / "simba.db", "default") as channel:
        space = ConfigurationSpace.from_module(student)
        await channel.publish(space.extract(student), expected=0, reason="by hand")
    live = LiveProgram(TwoStages(), store=tmp_path / "simba.db")
    lm = ScriptedLM(legible_script)
    with dspy.context(lm=lm):
        await live.acall(question="?")
    assert "ball" in lm.asks[-1].prompt


@pytest.mark.parametrize("name", ["BestOfN", "Refine"])
async def test_rule_writers_see_the_calls_of_copied_predictors(name: str, tmp_path: Path) -> None:
    def reward(args: Any, prediction: Any) -> float:
        return float(prediction.answer == "red")

    make: Any = getattr(dspy, name)
    student = make(dspy.Predict("question -> answer"), 2, reward, 1.0)
    writer = ScriptedLM(quiz_script)
    await finish(
        small_config(tmp_path / "simba.db", student=student, prompt_model=writer, strategies=[AppendARule()], bsize=8)
    )
    assert writer.asks
    for ask in writer.asks:
        assert "What is the colour of ball" in ask.input("better_program_trajectory")
        assert "What is the colour of ball" in ask.input("worse_program_trajectory")


class Look(dspy.Signature):
    image: dspy.Image = dspy.InputField()
    history: dspy.History = dspy.InputField()
    answer: str = dspy.OutputField()


def half_right(ask: Ask) -> dict[str, Any]:
    return advice(ask) if "module_advice" in ask.fields else {"answer": "red" if ask.chance() < 0.5 else "blue"}


async def test_images_and_histories_stay_whole_and_are_stored_once(tmp_path: Path) -> None:
    size = 120_000
    rows = [
        dspy.Example(
            image=dspy.Image("data:image/png;base64," + str(n) * size),
            history=dspy.History(messages=[{"answer": f"{n}"}]),
            answer="red",
        ).with_inputs("image", "history")
        for n in range(4)
    ]
    lm, writer = ScriptedLM(half_right), ScriptedLM(half_right)
    config = small_config(
        tmp_path / "simba.db",
        student=dspy.Predict(Look),
        trainset=rows,
        lm=lm,
        prompt_model=writer,
        strategies=[AppendADemo(), AppendARule()],
        bsize=4,
        max_steps=4,
        num_candidates=4,
    )
    result = await finish(config)
    programs: list[Any] = [candidate["program"] for candidate in result.candidate_programs]
    demos = [demo for program in programs for demo in program.demos]
    kinds = {(type(demo["image"]), len(demo["image"].url), type(demo["history"])) for demo in demos}
    assert kinds == {(dspy.Image, len("data:image/png;base64,") + size, dspy.History)}
    assert writer.asks
    assert all("<Image>" in ask.prompt for ask in writer.asks)
    assert not any(str(n) * 9 in ask.prompt for ask in writer.asks for n in range(4))
    assert size_of(config.store) < 2 * len(rows) * size


class Improviser(dspy.Module):
    """Holds a predictor, and calls others that it makes for each question."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return dspy.Predict("question, hint -> answer")(question=question, hint="none")


async def test_no_demo_is_made_of_calls_that_are_not_the_students_predictors(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"student": Improviser(), "strategies": [AppendADemo()], "bsize": 8}
    config = small_config(tmp_path / "simba.db", policy="adaptive", **changes)
    async with Optimizer.start(config) as optimizer:
        with contextlib.suppress(RunError):
            await optimizer.result(PATIENCE)
    async with await Reader.open(config.store) as reader:
        stored = await reader.programs(optimizer.run_id)
        declined = [event for event in await reader.events(optimizer.run_id) if isinstance(event, StrategyDeclined)]
    assert len(stored) == 1
    assert any("none of the student's predictors was called" in event.reason for event in declined)


class Streaming(dspy.Module):
    """Streams its own predictor, in a thread with an event loop of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        stream: Any = dspy.streamify(self.ask, async_streaming=False)
        *_, prediction = stream(question=question)
        return prediction


@pytest.mark.slow
async def test_a_student_that_streams_within_itself_runs_where_dspy_has_a_worker_for_each_rollout(
    tmp_path: Path,
) -> None:
    changes: dict[str, Any] = {"trainset": questions(24), "bsize": 24, "max_concurrency": 24, "max_steps": 1}
    # With fewer workers, calls may never end, as in `dspy.Evaluate`.
    with OpenAIServer(legible_script) as server, dspy.context(async_max_workers=24):
        lms: dict[str, Any] = {"lm": server.lm(), "prompt_model": server.lm()}
        result = await finish(small_config(tmp_path / "simba.db", student=Streaming(), **lms, **changes))
    assert result.student is not None
    assert result.student.rollouts >= 24


def embedded(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


def by_neighbours() -> Any:
    """Sets `forward` on the instance."""
    knn: Any = dspy.KNNFewShot  # Its arguments for BootstrapFewShot are not annotated.
    embedder = dspy.Embedder(embedded, caching=False)
    optimizer = knn(2, questions(4), embedder, metric=always, max_bootstrapped_demos=1, max_labeled_demos=2)
    return optimizer.compile(dspy.Predict("question -> answer"))


async def test_a_forward_that_is_set_on_the_instance_is_scored_and_served(tmp_path: Path) -> None:
    lm = ScriptedLM(all_known)
    config = small_config(tmp_path / "simba.db", student=by_neighbours(), lm=lm, metric=always, max_steps=1)
    await finish(config)
    live: Any = LiveProgram(by_neighbours(), store=config.store)
    served = list[list[tuple[tuple[str, str], ...]]]()
    for asynchronous in (True, False):
        lm.asks.clear()
        with dspy.context(lm=lm):
            await (live.acall(question="?") if asynchronous else asyncio.to_thread(live, question="?"))
        served.append([ask.messages for ask in lm.asks])
    assert served[0] == served[1]
    assert any(role == "assistant" for role, _ in served[0][-1])  # Its neighbours, as demos.
