"""The recipes, run as a reader would, with the simulated LM."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

import simba_actors
from simba_actors import Channel, Optimizer
from tests.support.hosts import run_script_in_fork
from tests.support.openai_server import OpenAIServer
from tests.support.router import EXAMPLES
from tests.support.runs import small_config
from tests.support.waiting import PATIENCE

IN_FORK = """
import os, runpy, sys
os.chdir(sys.argv[1])
sys.argv[:] = [sys.argv[2]]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Recipe:
    """Return a function that runs recipes in a folder, where they keep their stores, with DSPy already imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str) -> str:
        return run_script_in_fork(IN_FORK, self.folder, EXAMPLES / name)


@pytest.fixture
def run(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path)


def test_rag_learns_to_cite(run: Recipe) -> None:
    sources = re.findall(r"from the passage (.*)", run("rag.py"))
    assert sources == ["None", "'Mars has 2 moons'"]


def test_react_learns_to_use_its_tools(run: Recipe) -> None:
    output = run("react.py")
    assert "student: finish, answer 100\n" in output
    assert "winner: price → multiply → finish, answer 3360\n" in output


def test_a_judges_feedback_becomes_a_rule(run: Recipe) -> None:
    assert "\n\nSay sorry, and say what happens next.\n" in run("llm_judge.py")


def test_no_program_of_the_pareto_front_is_best_in_both_scores(run: Recipe) -> None:
    front = run("several_metrics.py").partition("Pareto(")[2]
    scores = sorted((float(a), float(b)) for a, b in re.findall(r"accuracy ([\d.]+), brevity ([\d.]+)", front))
    assert len(scores) > 1
    assert [brevity for _, brevity in scores] == sorted((brevity for _, brevity in scores), reverse=True)


def test_the_winner_on_the_valset_is_better_on_the_test_set(run: Recipe) -> None:
    student, winner = re.findall(r"^  (?:student|winner) +([\d.]+)", run("valset_and_test.py"), re.MULTILINE)
    assert float(winner) > float(student) + 0.5


def test_a_larger_budget_continues_the_run(run: Recipe) -> None:
    lives = re.findall(r"(\d+) steps, (\d+) calls, .* cap reached: (\w+)", run("budget.py"))
    (steps, calls, cap), (more_steps, more_calls, no_cap) = lives
    assert (cap, no_cap) == ("max_tokens", "None")
    assert int(steps) < int(more_steps)
    assert int(calls) < int(more_calls)


def test_what_users_ask_makes_the_next_version_better(run: Recipe) -> None:
    happy = re.findall(r"version (\d): (\d) of 6 users are happy", run("online_examples.py"))
    assert happy == [("0", "2"), ("1", "6")]


def test_a_recipe_runs_on_the_model_that_is_named(tmp_path: Path) -> None:
    with OpenAIServer(lambda ask: {"answer": "Rome"}) as provider:
        command = [sys.executable, str(EXAMPLES / "several_metrics.py"), "--model", "openai/scripted"]
        command += ["--api-base", provider.address]
        env = {**os.environ, "OPENAI_API_KEY": "none", "DSPY_CACHEDIR": str(tmp_path / "cache")}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert provider.calls > 0


def test_the_list_of_examples_names_every_file() -> None:
    listed = set(re.findall(r"`(?:python examples/)?(\w+\.py)`", (EXAMPLES / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")}


def blocks_of_code(heading: str) -> str:
    """Return the blocks of Python with a class under a heading of the examples' README."""
    section = (EXAMPLES / "README.md").read_text(encoding="utf-8").partition(f"## {heading}")[2].partition("\n## ")[0]
    return "\n".join(block for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL) if "class " in block)


async def test_the_callbacks_for_other_trackers_log_metrics_and_prompts(tmp_path: Path) -> None:
    wandb, langfuse = Mock(), Mock()
    names: dict[str, Any] = {
        "asyncio": asyncio,
        "wandb": wandb,
        "langfuse": langfuse,
        "Channel": Channel,
        **vars(simba_actors.events),
    }
    exec(blocks_of_code("In MLflow, Weights & Biases and Langfuse"), names)  # noqa: S102 - our own page
    callbacks = [names["WandbCallback"](), names["LangfuseCallback"]()]
    async with Optimizer.start(small_config(tmp_path / "simba.db", callbacks=callbacks, channel="bot")) as optimizer:
        result = await optimizer.result(PATIENCE)
        await optimizer.publish()
    logged = [call.args[0] for call in wandb.init.return_value.log.call_args_list]
    assert [entry["calls"] for entry in logged] == sorted(entry["calls"] for entry in logged)
    assert len(logged) == 2
    (prompt,) = (call.kwargs for call in langfuse.get_client.return_value.create_prompt.call_args_list)
    assert (prompt["name"], prompt["prompt"]) == ("bot.self", cast("Any", result.program).signature.instructions)
