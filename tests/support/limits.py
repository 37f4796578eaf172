"""Limits that a system sets for a process."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from unittest.mock import patch

from simba_actors.runtime.threads import NO_THREAD


@contextmanager
def no_new_threads() -> Generator[None]:
    """Let the process start no thread within the block."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError(NO_THREAD)

    with patch.object(threading.Thread, "start", refuse):
        yield
