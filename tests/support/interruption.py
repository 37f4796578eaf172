"""What the garbage collector or another thread may do between any two lines of a function, done there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def interrupted_before_line(number: int, function: Any, action: Callable[[], object]) -> Generator[None]:
    """Run `action()` once in the next calls of `function`, before the nth line that they run, counted from 1."""
    left = number

    def trace_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                action()
        return trace_line

    def trace_call(frame: FrameType, event: str, argument: Any) -> Any:
        return trace_line if frame.f_code is function.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace_call)
    try:
        yield
    finally:
        sys.settrace(before)
    assert left <= 0, f"only {number - left} lines ran"
