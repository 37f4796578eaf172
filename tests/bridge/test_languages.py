"""A run in a planted world ends with the same programs, whichever process and language the student runs in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import RemoteStudent
from tests.bridge.test_runs import findings
from tests.support.languages import elixir_student, node_student
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import ANSWERS, questions, right_answer
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.students import quiz_service, served, served_over_grpc

pytestmark = pytest.mark.slow

WORLD: dict[str, Any] = {"policy": "dspy", "trainset": questions(8), "bsize": 4, "max_steps": 2}


def world(ask: Ask) -> dict[str, Any]:
    """Reply depending on what the student asks, and not on how its language words it."""
    demos, rules = sum(role == "assistant" for role, _ in ask.messages), ask.system.count("Rule:")
    temperature = None if ask.temperature is None else float(ask.temperature)
    question = ask.input("question")

    def chance(*salt: object) -> float:
        facts = repr((question, ask.input("hint"), demos, rules, temperature, ask.rollout_id, ask.fields, *salt))
        return int.from_bytes(hashlib.sha256(facts.encode()).digest()[:8]) / 2**64

    knows = chance("knows") < 0.3 + 0.1 * demos + 0.1 * rules
    return {name: right_answer(question) if knows else ANSWERS[int(chance(name) * 4)] for name in ask.fields}


class HintAndAnswer(dspy.Module):
    """The program of the reference students, written with DSPy."""

    def __init__(self) -> None:
        super().__init__()
        signature: Any = dspy.Signature
        self.hint = dspy.Predict(signature("question -> hint", "Give a hint that helps to answer the question."))
        self.answer = dspy.Predict(signature("question, hint -> answer", "Answer the question."))

    async def aforward(self, question: str) -> dspy.Prediction:
        hint = await self.hint.acall(question=question)
        return await self.answer.acall(question=question, hint=hint.hint)


async def local(store: Path) -> dict[str, Any]:
    return await findings(store, HintAndAnswer(), **{**WORLD, "lm": ScriptedLM(world)})


async def test_python_over_http(tmp_path: Path) -> None:
    with served(quiz_service(HintAndAnswer(), lm=ScriptedLM(world))) as address:
        found = await findings(tmp_path / "remote.db", RemoteStudent(address), **WORLD)
    assert found == await local(tmp_path / "local.db")


async def test_python_over_grpc(tmp_path: Path) -> None:
    with served_over_grpc(quiz_service(HintAndAnswer(), lm=ScriptedLM(world))) as address:
        found = await findings(tmp_path / "remote.db", RemoteStudent(address), **WORLD)
    assert found == await local(tmp_path / "local.db")


async def test_typescript_over_http_and_grpc(tmp_path: Path, node_folder: Path) -> None:
    pytest.importorskip("grpc")
    with OpenAIServer(world) as lm, node_student(node_folder, lm.address) as (http, grpc):
        over_http = await findings(tmp_path / "http.db", RemoteStudent(http), **WORLD)
        over_grpc = await findings(tmp_path / "grpc.db", RemoteStudent(grpc), **WORLD)
    assert over_http == over_grpc == await local(tmp_path / "local.db")


async def test_elixir_over_http(tmp_path: Path) -> None:
    with OpenAIServer(world) as lm, elixir_student(lm.address) as (http,):
        found = await findings(tmp_path / "remote.db", RemoteStudent(http), **WORLD)
    assert found == await local(tmp_path / "local.db")
