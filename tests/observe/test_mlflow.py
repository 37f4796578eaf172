"""A run in MLflow's own tracking store and registry, both in one SQLite file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Optimizer
from simba_actors.observe import MLflowCallback
from tests.support.hosts import run_script
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import quiz_script
from tests.support.runs import small_config

mlflow: Any = pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow

LOAD = """
import json, sys
import mlflow

program = mlflow.dspy.load_model(sys.argv[1])
answers = [demo["answer"] for demo in program.demos]
print(json.dumps({"instructions": program.signature.instructions, "answers": answers}))
"""
"""In a process of its own, since `load_model` sets the settings of DSPy."""

KEY = "sk-1234567890abcdef"


class Logged:
    """A run that was logged, and the client that reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client: Any = mlflow.MlflowClient(self.uri)
        self.client.create_experiment("quiz", artifact_location=(folder / "artifacts").as_uri())
        self.result: Any = asyncio.run(self.run())

    async def run(self) -> Any:
        student: Any = dspy.Predict("question -> answer")
        with OpenAIServer(quiz_script) as provider:
            student.lm = dspy.LM("openai/quiz", api_base=provider.address, api_key=KEY, cache=False)
            config = small_config(
                self.folder / "simba.db",
                student=student,
                channel="a bot",
                callbacks=[MLflowCallback(experiment="quiz", tracking_uri=self.uri)],
            )
            async with Optimizer.start(config) as optimizer:
                result = await optimizer.result()
                await optimizer.publish()
        return result

    def runs(self) -> list[Any]:
        experiment = self.client.get_experiment_by_name("quiz")
        return list(self.client.search_runs([experiment.experiment_id]))


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return Logged(tmp_path_factory.mktemp("mlflow"))


def test_a_run_has_its_settings_as_parameters(logged: Logged) -> None:
    (run,) = logged.runs()
    assert (run.info.run_name, run.info.status) == (logged.result.run_id, "FINISHED")
    assert (run.data.params["policy"], run.data.params["seed"]) == ("dspy", "3")


def test_a_run_has_metrics_by_step(logged: Logged) -> None:
    (run,) = logged.runs()
    history = logged.client.get_metric_history(run.info.run_id, "calls")
    assert sorted({metric.step for metric in history}) == [1, 2]
    assert run.data.metrics["score"] == logged.result.score
    assert run.data.metrics["calls"] == logged.result.usage.calls


def test_the_best_program_is_loaded_from_the_run(logged: Logged) -> None:
    (run,) = logged.runs()
    path = logged.client.download_artifacts(run.info.run_id, "program", str(logged.folder))
    loaded = json.loads(run_script(LOAD, Path(path)).splitlines()[-1])
    assert loaded["instructions"] == logged.result.program.signature.instructions
    assert loaded["answers"] == [demo["answer"] for demo in logged.result.program.demos]


def test_no_artifact_holds_a_key(logged: Logged) -> None:
    contents = [path.read_bytes() for path in (logged.folder / "artifacts").rglob("*") if path.is_file()]
    assert contents
    assert not any(KEY.encode() in content for content in contents)


def test_what_is_published_is_a_prompt_of_the_registry(logged: Logged) -> None:
    prompt = logged.client.get_prompt_version_by_alias("a_bot.self", "served")
    assert logged.client.get_prompt_version_by_alias("a_bot.self", "version-1").version == prompt.version
    assert prompt.variables == {"question"}
    assert prompt.template[0]["role"] == "system"
    assert logged.result.program.signature.instructions.splitlines()[-1] in prompt.template[0]["content"]


def test_a_run_that_is_started_again_continues_its_run_in_mlflow(logged: Logged) -> None:
    asyncio.run(logged.run())
    assert len(logged.runs()) == 1
