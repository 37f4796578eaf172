"""Processes that host the library: scripts and servers, each with a hard limit of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.support.waiting import PATIENCE, block_until


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
            _kill_all(process)
            output, errors = process.communicate(timeout=PATIENCE)
            raise AssertionError(f"still running after {limit:g} s:\n{output}\n{errors}") from None
    assert process.returncode == 0, f"exit status {process.returncode}:\n{output}\n{errors}"
    return output


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
            _kill_all(process)
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


def _kill_all(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Kill the process and its children, which share its process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
