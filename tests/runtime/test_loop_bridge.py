"""Work that threads submit to the event loop, and what happens to it if the loop is blocked."""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, cast

import pytest

from simba_actors.runtime import loop_bridge
from simba_actors.runtime.loop_bridge import LoopBlockedError, LoopBridge, LoopEndedError
from tests.support.waiting import PATIENCE

LONG, SHORT = 3600.0, 0.01


async def where() -> threading.Thread:
    return threading.current_thread()


async def two_turns() -> None:
    """Iterations within which the loop must begin the work of a thread."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_work_is_run_on_the_loop() -> None:
    bridge, loop = LoopBridge(), asyncio.get_running_loop()
    assert await asyncio.to_thread(lambda: bridge.run(loop, where, LONG)) is threading.current_thread()


async def test_work_that_has_begun_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge, loop, go_on, begun = LoopBridge(), asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    async def waits() -> str:
        begun.set()
        await asyncio.wait_for(go_on.wait(), PATIENCE)
        return "done"

    def wait_in_vain(answers: list[Future[str]], _: float) -> Any:
        """Wait until the work is under way, and return as if the time were over."""
        assert begun.wait(PATIENCE)
        unfinished = wait(answers, 0)
        loop.call_soon_threadsafe(go_on.set)
        return unfinished

    monkeypatch.setattr(loop_bridge, "wait", wait_in_vain)
    assert await asyncio.to_thread(lambda: bridge.run(loop, waits, SHORT)) == "done"


async def test_what_work_raises_is_raised_in_the_thread() -> None:
    bridge, loop = LoopBridge(), asyncio.get_running_loop()

    async def fails() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await asyncio.to_thread(lambda: bridge.run(loop, fails, LONG))


async def test_work_that_a_blocked_loop_does_not_begin_is_never_done() -> None:
    bridge, loop, done = LoopBridge(), asyncio.get_running_loop(), list[str]()

    async def works() -> None:
        done.append("work")

    with ThreadPoolExecutor(1) as pool:
        # Blocks the loop, with a thread that waits for it.
        error = pool.submit(bridge.run, loop, works, SHORT).exception()
    await two_turns()
    assert (type(error), done) == (LoopBlockedError, [])


async def test_a_loop_that_is_known_to_be_blocked_is_not_waited_for_until_it_has_turned() -> None:
    bridge, loop = LoopBridge(), asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(bridge.run, loop, where, SHORT).exception()
        second = pool.submit(bridge.run, loop, where, LONG).exception()
    assert (type(first), type(second)) == (LoopBlockedError, LoopBlockedError)
    await two_turns()
    assert await asyncio.to_thread(lambda: bridge.run(loop, where, LONG)) is threading.current_thread()


def test_work_for_a_loop_that_has_ended_is_not_done() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(LoopEndedError):
        LoopBridge().run(loop, where, LONG)


def test_work_whose_loop_is_closed_while_the_thread_hands_it_over_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    monkeypatch.setattr(loop, "is_closed", lambda: False)
    with pytest.raises(LoopEndedError):
        LoopBridge().run(loop, where, LONG)


def test_work_that_has_begun_is_not_waited_for_after_its_loop_was_closed() -> None:
    bridge, loop, begun = LoopBridge(), asyncio.new_event_loop(), asyncio.Event()
    errors: queue.SimpleQueue[Exception] = queue.SimpleQueue()

    async def never_ends() -> None:
        cast("Any", asyncio.current_task())._log_destroy_pending = False  # Its loop does not end it, on purpose.
        begun.set()
        await asyncio.Event().wait()

    def run() -> None:
        try:
            bridge.run(loop, never_ends, SHORT)
        except Exception as error:
            errors.put(error)

    threading.Thread(target=run, daemon=True).start()
    loop.run_until_complete(asyncio.wait_for(begun.wait(), PATIENCE))
    loop.close()
    assert type(errors.get(timeout=PATIENCE)) is LoopEndedError
