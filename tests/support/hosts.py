"""Processes that host the library: scripts and servers, each with a hard limit of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.support.children import start_process, start_script
from tests.support.waiting import PATIENCE, block_until, kill


def run_script(script: str, *arguments: object, through: Sequence[str] = (), limit: float = PATIENCE) -> str:
    """Run `script` in a Python of its own, started by the command `through`, and return what it prints.

    If it does not exit with 0 within the limit, fail with its stderr.
    """
    command = [*through, sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            kill_group(process.pid)
            output, errors = process.communicate(timeout=PATIENCE)
            raise AssertionError(f"still running after {limit:g} s:\n{output}\n{errors}") from None
    assert process.returncode == 0, f"exit status {process.returncode}:\n{output}\n{errors}"
    return output


def run_script_in_fork(script: str, *arguments: object) -> str:
    """Do as `run_script` does in a fork of a process that has imported DSPy and this package."""
    with tempfile.TemporaryDirectory() as directory:
        output, errors = Path(directory) / "output", Path(directory) / "errors"
        child = start_script(script, list(map(str, arguments)), output, errors)
        child.join(PATIENCE)
        code = child.exitcode
        if code is None:
            kill_group(child.pid)
            kill(child)
        printed = "\n".join(file.read_text() if file.exists() else "" for file in (output, errors))
        assert code is not None, f"still running after {PATIENCE:g} s:\n{printed}"
        assert code == 0, f"exit status {code}:\n{printed}"
        return output.read_text()


@contextmanager
def serving(serve: Callable[..., None], *arguments: Any, port: int) -> Generator[str]:
    """Run `serve(*arguments, port)` in a process that listens on `port` and is killed at the end. Yield its address."""
    child = start_process(serve, *arguments, port)
    try:
        block_until(lambda: listens_on(port) or child.exitcode is not None)
        assert child.exitcode is None, "the server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        kill(child)


@contextmanager
def running(command: Sequence[str], port: int, *, log: Path, **environment: str) -> Generator[httpx.Client]:
    """Run a server that listens on `port`, and yield a client. Fail unless the server exits cleanly on SIGTERM."""
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client,
    ):
        try:
            wait_for_port(process, port, log)
            yield client
            process.send_signal(signal.SIGTERM)
            status = process.wait(PATIENCE)
        finally:
            kill_group(process.pid)
        assert status in (0, -signal.SIGTERM), log.read_text()


def free_port() -> int:
    """Return a port that nothing listens on, below the range from which systems give ports to clients."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path | None = None) -> None:
    """Wait until a server listens on `port`. If it ends first, fail with its `log`."""
    block_until(lambda: listens_on(port) or process.poll() is not None, pause=0.05)
    assert process.poll() is None, f"the server did not start:\n{'' if log is None else log.read_text()}"


def listens_on(port: int) -> bool:
    """Return whether a server accepts connections at `port`."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def kill_group(pid: int | None) -> None:
    """Kill a process that leads a process group, and its children, which belong to it."""
    assert pid is not None
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
