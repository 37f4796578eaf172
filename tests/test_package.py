"""The package as it is installed and imported."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import simba_actors

ROOT = Path(__file__).parent.parent


def test_the_exported_names() -> None:
    assert set(simba_actors.__all__) == {
        "SIMBA",
        "Budget",
        "Channel",
        "EveryBucketSolved",
        "Governor",
        "Limits",
        "LiveProgram",
        "NoImprovement",
        "Optimizer",
        "OptimizerConfig",
        "OptimizerResult",
        "Pareto",
        "Progress",
        "Retry",
        "Status",
        "TargetReached",
        "Timeout",
        "VariableAware",
        "Weighted",
    }


@pytest.mark.parametrize("name", simba_actors.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(simba_actors, name).__name__ == name


def test_importing_the_package_imports_none_of_its_dependencies() -> None:
    code = "import simba_actors, sys; print({'dspy', 'anyio', 'aiosqlite', 'numpy', 'orjson'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_kernel_imports_nothing_of_dspy() -> None:
    code = "import simba_actors.actors, sys; print('dspy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_wheel_holds_the_package_and_says_that_it_is_typed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "simba_actors/py.typed" in names
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {"simba_actors"}


def test_the_version_has_one_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert importlib.metadata.version("simba_actors") == project["version"]
