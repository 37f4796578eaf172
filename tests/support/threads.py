"""Whether threads are left by what started them."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from simba_actors.runtime.threads import Threads
from tests.support.waiting import PATIENCE


@contextmanager
def no_threads_left() -> Generator[None]:
    """Fail if a thread that is started within the block does not end after it.

    One that has done its work takes a moment to end. One that is idle counts as left, though it would end in a while.
    """
    before = set(threading.enumerate())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Threads.__init__, "__defaults__", (2 * PATIENCE,))
        yield
    # The event loop's own executor, which DSPy uses, lasts as long as the loop.
    left = [thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio_")]
    for thread in left:
        thread.join(PATIENCE)
    alive = [thread for thread in left if thread.is_alive()]
    assert not alive, f"threads are left: {alive}"
