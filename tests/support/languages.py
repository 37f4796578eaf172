"""The reference students in other languages, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE, limited

ROOT = Path(__file__).parent.parent.parent

STUDENTS = ROOT / "examples" / "students"

PROTO = ROOT / "simba_actors" / "bridge" / "bridge.proto"
DESCRIPTORS = PROTO.with_suffix(".binpb")

INSTALL_SECONDS = 240


@contextmanager
def process(command: Sequence[object], folder: Path, addresses: int, **environment: str) -> Generator[list[str]]:
    """Run a student, and yield the addresses that it prints."""
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, "OPENAI_API_KEY": "none", **environment},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as student:
        try:
            assert student.stdout is not None
            with limited(student):
                printed = [student.stdout.readline().strip() for _ in range(addresses)]
            assert all("://" in line for line in printed), f"the student printed {printed}"
            yield printed
        finally:
            with suppress(ProcessLookupError):
                os.killpg(student.pid, signal.SIGKILL)


def installed_node_student(folder: Path) -> Path:
    """Install the TypeScript student into `folder`, or skip the test that needs it."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    shutil.copytree(STUDENTS / "typescript", folder, dirs_exist_ok=True)
    command = ["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        pytest.skip(f"npm can't install the student's packages: {done.stderr[-300:]}")
    return folder


@contextmanager
def node_student(folder: Path, lm: str) -> Generator[list[str]]:
    """Run the TypeScript student that was installed into `folder`, over HTTP and gRPC."""
    environment = {"PORT": "0", "GRPC_PORT": "0", "BRIDGE_CONTRACT": str(DESCRIPTORS), "OPENAI_BASE_URL": lm}
    with process(["node", "--import", "tsx", "student.ts"], folder, 2, **environment) as addresses:
        yield addresses


@contextmanager
def elixir_student(lm: str) -> Generator[list[str]]:
    """Run the Elixir student, or skip the test that needs it."""
    check_elixir()
    environment = {"PORT": "0", "OPENAI_BASE_URL": lm}
    with process(["elixir", "student.exs"], STUDENTS / "elixir", 1, **environment) as addresses:
        yield addresses


@cache
def check_elixir() -> None:
    """Skip the test unless Elixir and jiffy are installed."""
    if shutil.which("elixir") is None:
        pytest.skip("elixir is not installed")
    known = subprocess.run(
        ["elixir", "-e", "Code.ensure_loaded?(:jiffy) |> IO.inspect()"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if known.stdout.strip() != "true":
        pytest.skip("erlang-jiffy is not installed")
