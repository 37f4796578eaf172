"""Several LMs sample trajectories. Results are attributed to each, and only the student's LM counts as the student."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Optimizer, OptimizerConfig
from simba_actors.errors import ConfigError, FingerprintMismatchError
from simba_actors.events import TrajectorySampled
from simba_actors.store import Reader
from simba_actors.store.queries import run_queries
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import quiz_script, right_answer
from tests.support.runs import asks_of, findings, finish, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import PATIENCE
from tests.team.test_adaptive_runs import adaptive_config


def all_knowing(ask: Ask) -> dict[str, Any]:
    return {"answer": right_answer(ask.input("question"))}


def pool_config(store: Path, **changes: Any) -> OptimizerConfig:
    lms = {"wise": ScriptedLM(all_knowing), "hot": ScriptedLM(quiz_script, temperature=1.3)}
    settings: dict[str, Any] = {"teacher_lm": ScriptedLM(quiz_script, temperature=0.2), "sampling_lms": lms}
    return adaptive_config(store, **{"run_id": "run", "max_steps": 6, **settings, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> OptimizerConfig:
    """The config of a run that is finished."""
    config = pool_config(tmp_path_factory.mktemp("finished") / "simba.db")
    asyncio.run(finish(config))
    return config


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(quiz_script) as server:
        yield server


async def test_every_lm_of_the_pool_samples_and_the_student_most(finished: OptimizerConfig) -> None:
    async with await Reader.open(finished.store) as reader:
        sampled = Counter(score.model.lm for score in await reader.scores("run") if score.key.phase == "sample")
        found = [event for event in await reader.events("run", limit=10_000) if isinstance(event, TrajectorySampled)]
    assert set(sampled) == {"student", "teacher", "wise", "hot"}
    assert sampled["student"] >= 0.7 * sampled.total()
    assert Counter(event.lm for event in found) == sampled


def test_each_lm_is_asked_at_its_own_temperature(finished: OptimizerConfig) -> None:
    assert {ask.temperature for ask in asks_of(finished.sampling_lms["hot"])} == {1.3}


async def test_scores_of_other_lms_do_not_count_as_the_students(finished: OptimizerConfig) -> None:
    async with await Reader.open(finished.store) as reader:
        progress, shown = await reader.progress("run"), await reader.ask(run_queries.step_scores, "run")
        scores = await reader.scores("run")
    assert progress is not None
    assert [step.sampled.mean for step in shown if step.sampled] == pytest.approx([s.sampled for s in progress.history])
    for step in progress.history:
        own = [s.score for s in scores if (s.key.step, s.key.phase, s.model.lm) == (step.step - 1, "sample", "student")]
        assert step.sampled == pytest.approx(sum(own) / len(own))
    assert {score.model.lm for score in scores if score.key.phase != "sample"} == {"student"}


async def test_usage_is_accounted_for_by_lm(server: OpenAIServer, tmp_path: Path) -> None:
    student, other = lm_at(server.address), lm_at(server.address, temperature=0.9)
    config = pool_config(
        tmp_path / "simba.db", lm=student, prompt_model=student, teacher_lm=None, sampling_lms={"other": other}
    )
    async with await Optimizer.start(config) as optimizer:
        result, status = await optimizer.result(PATIENCE), await optimizer.status()
    assert set(result.usage_by_lm) == {"student", "other", "prompt_model"}
    assert sum(usage.calls for usage in result.usage_by_lm.values()) == result.usage.calls == server.calls
    assert sum(usage.tokens or 0 for usage in result.usage_by_lm.values()) == result.usage.tokens
    assert status.usage_by_lm == result.usage_by_lm


async def test_a_run_that_was_interrupted_gives_each_lm_the_same_work(
    finished: OptimizerConfig, tmp_path: Path
) -> None:
    cut = pool_config(tmp_path / "cut.db")
    async with await Optimizer.start(cut) as optimizer:
        await reach(optimizer, TrajectorySampled)
    await finish(cut)
    assert await findings(cut, "run") == await findings(finished, "run")


CHANGES: dict[str, dict[str, Any]] = {
    "hot lm": {"hot": ScriptedLM(quiz_script, temperature=0.4), "wise": ScriptedLM(all_knowing)},
    "wise lm": {"hot": ScriptedLM(quiz_script, temperature=1.3)},
    "new lm": {
        "hot": ScriptedLM(quiz_script, temperature=1.3),
        "wise": ScriptedLM(all_knowing),
        "new": ScriptedLM(quiz_script),
    },
}


@pytest.mark.parametrize("part", CHANGES)
async def test_resuming_with_another_pool_says_which_lm_differs(part: str, tmp_path: Path) -> None:
    async with await Optimizer.start(pool_config(tmp_path / "simba.db")):
        pass
    with pytest.raises(FingerprintMismatchError) as raised:
        await Optimizer.start(pool_config(tmp_path / "simba.db", sampling_lms=CHANGES[part]))
    assert raised.value.differing == (part,)


BAD: dict[str, tuple[Any, str]] = {
    "a_list": ([dspy.LM("openai/x")], "must be LMs by name, .* not list"),
    "a_reserved_name": ({"teacher": dspy.LM("openai/x")}, "'teacher' is not a valid name"),
    "no_name": ({"": dspy.LM("openai/x")}, "'' is not a valid name"),
    "a_models_name": ({"large": "openai/x"}, r"sampling_lms\['large'\] must be a dspy.LM, not str"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_config_refuses(case: str, tmp_path: Path) -> None:
    pool, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        adaptive_config(tmp_path / "simba.db", sampling_lms=pool)


def test_a_pool_is_refused_where_the_policy_has_no_use_for_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="policy='dspy' samples only with the student's LM and teacher_lm"):
        small_config(tmp_path / "simba.db", sampling_lms={"large": dspy.LM("openai/x")})
