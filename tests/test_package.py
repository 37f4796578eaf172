"""The package as it is installed and imported."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import pydoc
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

import simba_actors
from simba_actors import errors
from simba_actors.actors import errors as actors_errors
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parent.parent


def test_the_exported_names_are_those_that_the_package_documents() -> None:
    assert set(simba_actors.__all__) <= set(dir(simba_actors))


@pytest.mark.parametrize("name", simba_actors.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    known_as = {"Metric": "Callable"}  # An alias has the name of its type.
    assert getattr(simba_actors, name).__name__.rpartition(".")[2] == known_as.get(name, name)


@pytest.mark.parametrize("name", ["Budget", "Evaluation", "OptimizerConfig", "OptimizerResult", "Status"])
def test_help_explains_every_field(name: str) -> None:
    shown = pydoc.render_doc(getattr(simba_actors, name), renderer=cast("Any", pydoc).plaintext)
    fields = dataclasses.fields(getattr(simba_actors, name))
    assert [field.name for field in fields if f"      {field.name}: " not in shown] == []


@pytest.mark.parametrize("module", [errors, actors_errors], ids=lambda module: module.__name__)
def test_the_list_of_errors_has_every_error(module: ModuleType) -> None:
    shown = str(module.__doc__)
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert [
        kind.__name__ for kind in kinds if f"{kind.__name__} " not in shown and f"{kind.__name__}\n" not in shown
    ] == []


def printed_by(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout


def test_importing_the_package_imports_none_of_its_dependencies() -> None:
    code = "import simba_actors, sys; print({'dspy', 'anyio', 'aiosqlite', 'numpy', 'orjson'} & set(sys.modules))"
    assert printed_by(code) == "set()\n"


def test_the_kernel_imports_nothing_of_dspy() -> None:
    code = "import simba_actors.actors, sys; print('dspy' in sys.modules)"
    assert printed_by(code) == "False\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    # As `pip wheel` does, but without a download of hatchling.
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE)
    (built,) = directory.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_says_that_it_is_typed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "simba_actors/py.typed" in names
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {"simba_actors"}


AWAY = """
import dspy
from dspy.utils import DummyLM
import simba_actors
from simba_actors import SIMBA
from simba_actors.web import dashboard

rows = [dspy.Example(question=str(n), answer="!").with_inputs("question") for n in range(4)]
simba = SIMBA(metric=dspy.evaluate.answer_exact_match, bsize=2, max_steps=1, store="a.db")
with dspy.context(lm=DummyLM([{"answer": "!"}] * 1000)):
    better = simba.compile(dspy.Predict("question -> answer"), trainset=rows)
dashboard("a.db")
print(simba_actors.__file__, better.candidate_programs[0]["score"])
"""


def test_the_wheel_works_away_from_the_repository(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        variables = {**os.environ, "PYTHONPATH": str(site)}
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True, timeout=PATIENCE
        ).stdout

    assert run("-c", AWAY).splitlines()[-1] == f"{site / 'simba_actors' / '__init__.py'} 1.0"
    assert "finished" in run("-m", "simba_actors", "runs", "--store", "a.db")


def test_the_version_has_one_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert importlib.metadata.version("simba_actors") == project["version"] == simba_actors.__version__
