"""A run in MLflow's own tracking store and registry, both in one SQLite file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.hosts import run_script

pytestmark = pytest.mark.slow

KEY = "sk-1234567890abcdef"

SCRIPT = """
import asyncio, json, sys
from pathlib import Path

import dspy, mlflow

from simba_actors import Optimizer
from simba_actors.observe import MLflowCallback
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import quiz_script
from tests.support.runs import small_config

folder, key = Path(sys.argv[1]), sys.argv[2]
uri = f"sqlite:///{folder / 'mlflow.db'}"
client = mlflow.MlflowClient(uri)
experiment = client.create_experiment("quiz", artifact_location=(folder / "artifacts").as_uri())


async def optimize(publish, rollback=False, **changes):
    student = dspy.Predict("question -> answer")
    with OpenAIServer(quiz_script) as provider:
        student.lm = dspy.LM("openai/quiz", api_base=provider.address, api_key=key, cache=False)
        callbacks = [MLflowCallback(experiment="quiz", tracking_uri=uri)]
        config = small_config(folder / "simba.db", student=student, channel="a bot", callbacks=callbacks, **changes)
        async with Optimizer.start(config) as optimizer:
            result = await optimizer.result()
            if publish:
                await optimizer.publish()
            if rollback:
                await optimizer.rollback(reason="worse")
    return result


result = asyncio.run(optimize(publish=True))
(run,) = client.search_runs([experiment])
served = client.get_prompt_version_by_alias("a_bot.self", "served")
artifacts = [path.read_bytes() for path in (folder / "artifacts").rglob("*") if path.is_file()]
asyncio.run(optimize(publish=False))
loaded = mlflow.dspy.load_model(client.download_artifacts(run.info.run_id, "program", str(folder)))
runs = len(client.search_runs([experiment]))
asyncio.run(optimize(publish=True, rollback=True, seed=4, run_id="another"))
served_again = client.get_prompt_version_by_alias("a_bot.self", "served")
print(json.dumps({
    "run_id": result.run_id,
    "score": result.score,
    "instructions": result.program.signature.instructions,
    "answers": [demo["answer"] for demo in result.program.demos],
    "name": run.info.run_name,
    "status": run.info.status,
    "params": run.data.params,
    "metrics": run.data.metrics,
    "steps": [metric.step for metric in client.get_metric_history(run.info.run_id, "calls")],
    "runs": runs,
    "artifacts": len(artifacts),
    "keys": sum(key.encode() in content for content in artifacts),
    "loaded": [loaded.signature.instructions, [demo["answer"] for demo in loaded.demos]],
    "prompt": [served.version, sorted(served.variables), served.template[0]["content"]],
    "rolled_back": [served_again.version, served_again.template == served.template],
    "version-3": client.get_prompt_version_by_alias("a_bot.self", "version-3").version,
    "version": client.get_prompt_version_by_alias("a_bot.self", "version-1").version,
}))
"""
"""In a process of its own: MLflow warns of itself, and `load_model` sets the settings of DSPy."""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    printed = run_script(SCRIPT, tmp_path_factory.mktemp("mlflow"), KEY)
    return json.loads(printed.strip().splitlines()[-1])


def test_a_run_has_its_settings_as_parameters(logged: dict[str, Any]) -> None:
    assert (logged["name"], logged["status"]) == (logged["run_id"], "FINISHED")
    assert (logged["params"]["policy"], logged["params"]["seed"]) == ("dspy", "3")


def test_a_run_has_metrics_by_step(logged: dict[str, Any]) -> None:
    assert set(logged["steps"]) == {1, 2}
    assert logged["metrics"]["score"] == logged["score"]
    assert logged["metrics"]["tokens"] > 0


def test_the_best_program_is_loaded_from_the_run(logged: dict[str, Any]) -> None:
    assert logged["loaded"] == [logged["instructions"], logged["answers"]]


def test_no_artifact_holds_a_key(logged: dict[str, Any]) -> None:
    assert logged["artifacts"] > 0
    assert logged["keys"] == 0


def test_what_is_published_is_a_prompt_of_the_registry(logged: dict[str, Any]) -> None:
    version, variables, system = logged["prompt"]
    assert (version, variables) == (logged["version"], ["question"])
    assert logged["instructions"].splitlines()[-1] in system


def test_a_rollback_to_another_runs_program_moves_the_alias(logged: dict[str, Any]) -> None:
    assert logged["rolled_back"] == [logged["version-3"], True]


def test_a_run_that_is_started_again_continues_its_run_in_mlflow(logged: dict[str, Any]) -> None:
    assert logged["runs"] == 1
