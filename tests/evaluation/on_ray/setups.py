"""Students and setups of the tests' workers. Ray's processes import this module."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dspy

from tests.support.openai_server import lm_at


class Locked(dspy.Module):
    """A student with a lock, which can't travel."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")
        self.lock = threading.Lock()

    async def aforward(self, question: str) -> dspy.Prediction:
        with self.lock:
            pass
        return await self.answer.acall(question=question)


class Deadly(dspy.Module):
    """A student that ends its process at one question, as a fault in a C extension does."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        if question.endswith("ball 0?"):
            os._exit(3)
        return await self.answer.acall(question=question)


def noting(directory: Path) -> Callable[[], None]:
    """Return a setup that notes the process id of the worker in `directory`."""
    return partial(note, directory)


def note(directory: Path) -> None:
    (directory / str(os.getpid())).touch()


def locked_with_own_key(directory: Path, address: str) -> dict[str, Any]:
    """Make the student and the LM in the worker, with a key of its own."""
    note(directory)
    return {"student": Locked(), "lm": lm_at(address, api_key=f"sk-worker-{os.getpid()}")}


def pids_in(directory: Path) -> list[int]:
    """Return the process ids that were noted, the newest last."""
    return [int(file.name) for file in sorted(directory.iterdir(), key=lambda file: file.stat().st_mtime_ns)]
