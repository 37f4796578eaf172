"""Whole runs of remote students end like those of the same program in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import AppendADemo, Governor, RemoteStudent, Retry
from simba_actors.store import Reader
from simba_actors.store.queries.rollout_queries import failures
from tests.support.quiz import ANSWERS, questions, quiz_script
from tests.support.runs import findings_in, finish, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.students import HintAndAnswer, OddStudent, quiz_service, served, succeeded

pytestmark = pytest.mark.slow

ADAPTIVE = {"policy": "adaptive", "trainset": questions(12), "bsize": 6, "max_steps": 3}


def rules(ask: Ask) -> dict[str, Any] | str:
    """Write rules that depend on the runs that they are learned from, but not on the program's code."""
    names = json.loads(ask.input("module_names") or '["hint", "answer.predict"]')
    n = sum(map(ord, ask.input("worse_program_trajectory"))) % 4
    return {"discussion": "It was worse.", "module_advice": dict.fromkeys(names, f"Rule: prefer {ANSWERS[n]}.")}


async def findings(store: Path, student: dspy.Module, **changes: Any) -> dict[str, Any]:
    settings = {"student": student, "prompt_model": ScriptedLM(rules), "run_id": "run", **changes}
    await finish(small_config(store, **settings))
    return await findings_in(store, "run")


@pytest.mark.parametrize("changes", [{}, ADAPTIVE], ids=["dspy", "adaptive"])
async def test_a_run_is_that_of_the_program_here_program_for_program(tmp_path: Path, changes: dict[str, Any]) -> None:
    with served(quiz_service()) as address:
        remote = await findings(tmp_path / "remote.db", RemoteStudent(address), **changes)
    assert remote == await findings(tmp_path / "local.db", HintAndAnswer(), **changes)


async def test_a_run_at_a_student_that_is_busy_ends_the_same(tmp_path: Path) -> None:
    with served(quiz_service(max_concurrency=1)) as address:
        governor = Governor(retry=Retry(base=0.01))
        remote = await findings(tmp_path / "remote.db", RemoteStudent(address), governor=governor)
    assert remote == await findings(tmp_path / "local.db", HintAndAnswer())


async def test_a_program_failure_scores_zero_and_keeps_its_error(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        failure = {"type": "ValueError", "message": "no idea"}
        if request["inputs"]["question"].endswith("0?"):
            return succeeded(request, outcome="OUTCOME_PROGRAM_FAILURE", prediction=None, failure=failure)
        return succeeded(request)

    with OddStudent(answer) as odd:
        config = small_config(tmp_path / "simba.db", student=RemoteStudent(odd.address), run_id="run")
        await finish(config)
    assert await errors_of(tmp_path / "simba.db") == {"ValueError: no idea"}


async def errors_of(store: Path) -> set[str]:
    async with await Reader.open(store) as reader:
        return {error for error, _, _ in await reader.ask(failures, "run")}


async def test_the_governor_tries_again_when_the_infrastructure_fails(tmp_path: Path) -> None:
    failed: set[str] = set()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        question = request["inputs"]["question"]
        if question not in failed:
            failed.add(question)
            failure = {"type": "Timeout", "message": "the LM hangs"}
            return succeeded(request, outcome="OUTCOME_INFRASTRUCTURE_FAILURE", prediction=None, failure=failure)
        return succeeded(request)

    with OddStudent(answer) as odd:
        governor = Governor(retry=Retry(base=0.01))
        config = small_config(
            tmp_path / "simba.db", student=RemoteStudent(odd.address), governor=governor, run_id="run"
        )
        await finish(config)
    assert await errors_of(tmp_path / "simba.db") == set()


async def test_calls_tokens_and_cost_of_the_student_count(tmp_path: Path) -> None:
    usage = {"calls": 3, "promptTokens": 100, "completionTokens": 10, "cost": 0.5}
    with OddStudent(lambda request: succeeded(request, usage=usage)) as odd:
        config = small_config(
            tmp_path / "simba.db",
            student=RemoteStudent(odd.address),
            strategies=[AppendADemo()],
            run_id="run",
        )
        result = await finish(config)
        assert result.usage.calls == 3 * odd.count("Run")
        assert result.usage.cost == 0.5 * odd.count("Run")


async def test_no_lm_is_needed_here_but_that_which_writes_rules(tmp_path: Path) -> None:
    with served(quiz_service()) as address:
        config = small_config(
            tmp_path / "simba.db", student=RemoteStudent(address), lm=None, prompt_model=ScriptedLM(quiz_script)
        )
        assert (await finish(config)).program is not None
