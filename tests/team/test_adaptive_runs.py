"""Runs with `policy="adaptive"`: their results, and what the results must not depend on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Budget, Optimizer, OptimizerConfig, OptimizerResult
from simba_actors.errors import ConfigError
from simba_actors.events import StepClosed, TrajectorySampled
from simba_actors.programs import Choice, Configuration, ConfigurationSpace, Float
from simba_actors.store import Reader
from simba_actors.strategies import AppendADemo, AppendLabeledDemos, Recombine
from tests.parity.scenarios import HintThenAnswer
from tests.support.quiz import questions, right_answer
from tests.support.runs import asks_of, findings, finish, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM


def adaptive_config(store: Path, **changes: Any) -> OptimizerConfig:
    settings: dict[str, Any] = {"policy": "adaptive", "trainset": questions(12), "max_steps": 4, "bsize": 8}
    return small_config(store, **{**settings, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[OptimizerConfig, OptimizerResult]:
    """A run that is finished, and its result."""
    config = adaptive_config(tmp_path_factory.mktemp("finished") / "simba.db")
    return config, asyncio.run(finish(config))


async def test_each_finalist_has_the_mean_of_its_own_rollouts_and_the_winner_is_the_first(
    finished: tuple[OptimizerConfig, OptimizerResult],
) -> None:
    config, result = finished
    async with await Reader.open(config.store) as reader:
        scores = await reader.scores(result.run_id)
    winner: Any = result.program
    assert (result.finalists[0].number, result.finalists[0].score) == (winner.simba_idx, result.score)
    for finalist in result.finalists:
        own = [score.score for score in scores if score.program == finalist.number and score.model.is_student_lm]
        assert (finalist.score, finalist.rollouts) == (pytest.approx(sum(own) / len(own)), len(own))


async def test_the_result_does_not_depend_on_how_many_rollouts_run_at_a_time(tmp_path: Path) -> None:
    found: list[Any] = []
    for concurrency in (1, 7):
        config = adaptive_config(tmp_path / f"{concurrency}.db", max_concurrency=concurrency, run_id="run")
        found.append(await findings(config, (await finish(config)).run_id))
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", [TrajectorySampled, StepClosed])
async def test_a_stopped_run_ends_as_if_it_had_not_been(
    kind: type, finished: tuple[OptimizerConfig, OptimizerResult], tmp_path: Path
) -> None:
    whole, result = finished
    config = adaptive_config(tmp_path / "stopped.db")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, kind)
    assert await findings(config, (await finish(config)).run_id) == await findings(whole, result.run_id)


async def test_no_step_makes_a_program_that_an_earlier_step_made(
    finished: tuple[OptimizerConfig, OptimizerResult],
) -> None:
    config, result = finished
    steps: dict[str, set[int]] = {}
    async with await Reader.open(config.store) as reader:
        for program in await reader.programs(result.run_id):
            steps.setdefault(program.digest, set()).add(program.step)
    assert len(steps) > 5
    assert all(len(made_in) == 1 for made_in in steps.values())


@pytest.mark.parametrize("strategies", [None, [AppendADemo(), AppendLabeledDemos(), Recombine()]])
async def test_no_candidate_is_scored_on_an_example_that_it_has_as_a_demo(strategies: Any, tmp_path: Path) -> None:
    config = adaptive_config(tmp_path / "simba.db", strategies=strategies)
    result = await finish(config)
    async with await Reader.open(config.store) as reader:
        programs = {program.number: str(program.configuration) for program in await reader.programs(result.run_id)}
        scores = await reader.scores(result.run_id)
    judged = [score for score in scores if score.key.phase != "sample"]
    asked = [config.trainset[score.example].question for score in judged]
    assert judged
    assert not [score for score, question in zip(judged, asked, strict=True) if question in programs[score.program]]


async def test_each_lesson_from_labels_makes_a_full_set_of_demos(tmp_path: Path) -> None:
    config = adaptive_config(tmp_path / "simba.db", strategies=[AppendLabeledDemos(), Recombine()], max_demos=3)
    result = await finish(config)
    async with await Reader.open(config.store) as reader:
        made = [program for program in await reader.programs(result.run_id) if program.strategy != "recombine"]
    assert {len(Configuration.from_json(program.configuration).demos("self")) for program in made[1:]} == {3}


async def test_the_search_is_planned_by_the_cap_on_calls(tmp_path: Path) -> None:
    config = adaptive_config(tmp_path / "simba.db", budget=Budget(max_calls=100))
    await finish(config)
    assert 60 < len(asks_of(config.lm)) + len(asks_of(config.prompt_model)) <= 100


async def test_a_valset_decides_the_winner_and_nothing_is_learned_from_it(tmp_path: Path) -> None:
    valset = questions(12, start=500)
    config = adaptive_config(tmp_path / "simba.db", valset=valset)
    result = await finish(config)
    async with await Reader.open(config.store) as reader:
        scores = await reader.scores(result.run_id)
        programs = str([program.configuration for program in await reader.programs(result.run_id)])
    final = [score for score in scores if score.key.phase == "final"]
    assert {score.split for score in final} == {"val"}
    winner: Any = result.program
    own = [score.score for score in final if score.program == winner.simba_idx]
    assert result.score == sum(own) / len(own)
    assert not [row for row in valset if row.question in programs]


def test_a_valset_is_refused_where_the_policy_has_no_use_for_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="policy='dspy' chooses its winner on the trainset"):
        small_config(tmp_path / "simba.db", valset=questions(4))


def test_examples_of_a_valset_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"valset\[0\] does not say which of its fields are inputs"):
        adaptive_config(tmp_path / "simba.db", valset=[dspy.Example(question="?")])


async def test_every_predictor_of_a_program_is_improved(tmp_path: Path) -> None:
    config = adaptive_config(tmp_path / "simba.db", student=HintThenAnswer())
    result = await finish(config)
    async with await Reader.open(config.store) as reader:
        programs = await reader.programs(result.run_id)
    text = str([program.configuration for program in programs])
    assert "hinter.demos': [{" in text.replace('"', "'")
    assert isinstance(result.program, dspy.Module)


def settled_by_temperature(ask: Ask) -> dict[str, Any]:
    """Answer right at temperatures from 1.0 on, and wrong below."""
    asked = ask.input("question") or ask.last
    return {"answer": right_answer(asked) if (ask.temperature or 0.0) >= 1.0 else "grey"}


async def test_an_lm_setting_that_the_user_opened_is_chosen_by_what_it_scores(tmp_path: Path) -> None:
    student = dspy.Predict("question -> answer")
    space = ConfigurationSpace.from_module(student, settings={"self.temperature": Float(0.0, 1.0)})
    lm = ScriptedLM(settled_by_temperature, temperature=0.0)
    config = adaptive_config(tmp_path / "simba.db", student=student, space=space, lm=lm)
    winner: Any = (await finish(config)).program
    assert winner.config == {"temperature": 1.0}


def right(ask: Ask) -> dict[str, Any]:
    return {"answer": right_answer(ask.input("question") or ask.last)}


def wrong(ask: Ask) -> dict[str, Any]:
    return {"answer": "grey"}


async def test_the_lm_that_the_user_opened_is_chosen_by_what_it_scores(tmp_path: Path) -> None:
    student = dspy.Predict("question -> answer")
    small, large = ScriptedLM(wrong), ScriptedLM(right)
    space = ConfigurationSpace.from_module(
        student, settings={"self.lm": Choice(("small", "large"))}, lms={"small": small, "large": large}
    )
    config = adaptive_config(tmp_path / "simba.db", student=student, space=space, lm=small)
    winner: Any = (await finish(config)).program
    assert winner.lm is large


def right_with_room(ask: Ask) -> dict[str, Any]:
    return right(ask) if ask.max_tokens == 900 else wrong(ask)


def right_without_room(ask: Ask) -> dict[str, Any]:
    """Answer right at times, and never if there is room for long answers."""
    return right(ask) if ask.max_tokens != 900 and ask.chance() < 0.3 else wrong(ask)


async def test_a_choice_that_depends_on_the_lm_is_made_for_that_lm_alone(tmp_path: Path) -> None:
    student = dspy.Predict("question -> answer")
    small, large = ScriptedLM(right_without_room), ScriptedLM(right_with_room)
    room = Choice((300, 900), when={"self.lm": ("large",)})
    space = ConfigurationSpace.from_module(
        student,
        settings={"self.lm": Choice(("small", "large")), "self.max_tokens": room},
        lms={"small": small, "large": large},
    )
    config = adaptive_config(tmp_path / "simba.db", student=student, space=space, lm=small)
    winner: Any = (await finish(config)).program
    assert (winner.lm is large, winner.config) == (True, {"max_tokens": 900})
    assert {ask.max_tokens for ask in small.asks}.isdisjoint({300, 900})
