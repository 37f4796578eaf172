"""Child processes for runs that a test kills, and for scripts."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        "tests.support.runs",
        "tests.support.openai_server",
        "tests.support.live",
        # Runs and servers import these when they begin.
        "anyio._backends._asyncio",
        "numpy.random",
        "simba_actors.web",
        "uvicorn",
    ]
)


def start_child(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> BaseProcess:
    """Return a new process that runs `work(*args)` in an event loop."""
    return start_process(_run_in_loop, work, *args)


def start_process(work: Callable[..., None], *args: Any) -> BaseProcess:
    """Return a new process that runs `work(*args)`. It is forked from a server that has imported what it needs."""
    child = _forks.Process(target=_run, args=[work, *args])
    child.start()
    return child


def start_script(script: str, arguments: Sequence[str], output: Path, errors: Path) -> BaseProcess:
    """Return a new process that runs `script` as `python -c` would, in a process group of its own.

    Like `start_process`, it saves the two seconds that importing DSPy takes. What it prints goes to two files.
    """
    return start_process(_run_script, script, arguments, output, errors, dict(os.environ))


def _run_script(
    script: str, arguments: Sequence[str], output: Path, errors: Path, environment: Mapping[str, str]
) -> NoReturn:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for path, number in ((output, 1), (errors, 2)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.argv[:] = ["-c", *arguments]
    main = sys.modules["__main__"] = ModuleType("__main__")
    status = 0
    try:
        exec(compile(script, "<string>", "exec"), vars(main))  # noqa: S102 - a test's own script
    except SystemExit as over:
        status = over.code if isinstance(over.code, int) else int(over.code is not None)
        if isinstance(over.code, str):
            print(over.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    # A child of multiprocessing would skip what an interpreter does at its end.
    ctypes.pythonapi.Py_Exit(status)
    raise AssertionError("unreachable")


def _run(work: Callable[..., None], *args: Any) -> None:
    # Background jobs of a shell ignore Ctrl-C, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work(*args)


def _run_in_loop(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    asyncio.run(work(*args))
