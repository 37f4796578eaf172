"""Threads for blocking calls, also when the process can't start any more."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from simba_actors.runtime.threads import NO_THREAD, Threads
from tests.support.limits import no_new_threads
from tests.support.waiting import PATIENCE


async def test_calls_wait_for_a_reserved_thread_if_no_more_can_be_started() -> None:
    threads = Threads(reserved_for=asyncio.get_running_loop())
    first_may_end = threading.Event()
    with no_new_threads():
        first, second, third = map(threads.submit, (first_may_end.wait, threading.get_ident, threading.get_ident))
        first_may_end.set()
        assert await second == await third
        assert await first
    await threads.close()


async def test_without_a_reserved_thread_a_call_that_gets_none_is_refused() -> None:
    with no_new_threads(), pytest.raises(RuntimeError, match=NO_THREAD):
        await Threads().run(threading.get_ident)


async def test_a_reserved_thread_outlives_its_idle_time() -> None:
    threads = Threads(idle=0.001, reserved_for=asyncio.get_running_loop())
    first = await threads.run(threading.get_ident)
    await asyncio.sleep(0.02)
    assert await threads.run(threading.get_ident) == first
    await threads.close()


async def test_closing_does_not_wait_for_the_threads_of_the_event_loop() -> None:
    may_end, threads = threading.Event(), Threads()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    hosts = asyncio.create_task(asyncio.to_thread(may_end.wait, PATIENCE))
    thread = await threads.run(threading.current_thread)
    await threads.close()
    assert (thread.is_alive(), hosts.done()) == (False, False)
    may_end.set()
    await hosts


def test_a_reserved_thread_ends_after_its_loop_was_closed() -> None:
    async def reserve() -> threading.Thread:
        return await Threads(idle=0.001, reserved_for=asyncio.get_running_loop()).run(threading.current_thread)

    thread = asyncio.run(reserve())
    thread.join(PATIENCE)
    assert not thread.is_alive()


async def test_a_forked_child_does_not_run_the_calls_that_wait_in_its_parent() -> None:
    threads = Threads(reserved_for=asyncio.get_running_loop())
    may_end, ran = threading.Event(), list[str]()
    with no_new_threads():
        busy, waiting = threads.submit(may_end.wait), threads.submit(lambda: ran.append("waiting"))
    threads.after_fork_in_child()
    await threads.run(lambda: ran.append("child's"))
    may_end.set()
    await busy
    await threads.close()
    assert (ran, waiting.done()) == (["child's"], False)


def test_a_forked_child_has_no_reserved_thread_to_wait_for() -> None:
    async def fork() -> None:
        threads = Threads(reserved_for=asyncio.get_running_loop())
        threads.after_fork_in_child()
        with no_new_threads(), pytest.raises(RuntimeError, match=NO_THREAD):
            await asyncio.wait_for(threads.run(threading.get_ident), PATIENCE)

    asyncio.run(fork())
