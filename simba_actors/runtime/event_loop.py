"""The running event loop, which must be asyncio's."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from simba_actors.errors import NoEventLoopError


def running_loop(user: str) -> asyncio.AbstractEventLoop:
    """Return the running event loop, which `user` needs.

    Raises:
        NoEventLoopError: No asyncio loop is running, for example in a trio task.
    """
    loop = running_loop_or_none()
    if loop is None:
        raise NoEventLoopError(
            f"{user} needs a running asyncio event loop: call it in a coroutine that asyncio.run runs, in another "
            "thread if this one runs another kind of loop"
        )
    return loop


def running_loop_or_none() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop; None if there is none in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_in_trio() -> bool:
    """Return whether this code runs in a trio task, which would wait for an asyncio loop forever."""
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True
