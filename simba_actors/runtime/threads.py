"""Threads for code that blocks: sync students, sync metrics, LMs without an async side."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from simba_actors.runtime.exception_isolation import raised_in_thread
from simba_actors.runtime.forks import survive_forks

R = TypeVar("R")

NO_THREAD = "can't start new thread"
"""Message of the RuntimeError with which Python says that the process can have no more threads."""

LOOK_SECONDS = 0.001
"""Seconds between checks whether threads that were asked to end have ended. They do so at once."""

THREAD_REMEDY = "raise the limit of its threads (`ulimit -u`, or `pids.max` of its container), or end other threads"


class Threads:
    """Runs blocking calls, each in a thread of its own while it lasts, in the caller's context.

        prediction = await threads.run(lambda: student(question="…"))

    Threads are daemons: a call that hangs delays neither a shutdown nor the end of the process, as it would in the
    worker threads of anyio and asyncio. A caller that is cancelled leaves its thread behind. Idle threads are used
    again, and end after `idle` seconds.

    With `reserved_for`, there is always one thread until that event loop is closed, and calls wait for it if the
    process can't start more. The constructor raises RuntimeError if it can't start that thread.
    """

    def __init__(self, idle: float = 10.0, *, reserved_for: asyncio.AbstractEventLoop | None = None) -> None:
        self._idle_seconds = idle
        self._idle: list[_Worker] = []
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._reserved_for = reserved_for
        if reserved_for is not None:
            self._idle.append(_Worker(idle, self._rest, self._retire))
        survive_forks(self)

    async def run(self, call: Callable[[], R]) -> R:
        """Return what `call()` returns. Raise RuntimeError if the process can't start a thread."""
        return await self.submit(call)

    def submit(self, call: Callable[[], R]) -> asyncio.Future[R]:
        """Return a future for what `call()` returns. Raise RuntimeError if the process can't start a thread."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        context = copy_context()
        self.start(lambda: context.run(_run, call, loop, answer))
        return answer

    def start(self, job: Callable[[], None]) -> None:
        """Run `job()`, which must not raise, in a thread of its own."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            try:
                worker = _Worker(self._idle_seconds, self._rest, self._retire)
            except RuntimeError:
                if self._reserved_for is None:
                    raise
                self._wait(job)
                return
        worker.jobs.put(job)

    async def close(self) -> None:
        """Wait for the idle threads to end. Busy ones end with their call."""
        with self._lock:
            self._closed = True
            ending, self._idle = self._idle, []
        for worker in ending:
            worker.jobs.put(None)
        # Not joined in a thread: the host's own calls may occupy all those of the event loop, for however long.
        while any(worker.thread.is_alive() for worker in ending):  # noqa: ASYNC110 - the end of a thread has no event
            await asyncio.sleep(LOOK_SECONDS)

    def before_fork(self) -> None:
        """Do nothing: there is nothing to close."""

    def after_fork_in_parent(self) -> None:
        """Do nothing: nothing was closed."""

    def after_fork_in_child(self) -> None:
        """Forget the threads, which the child does not have, and the jobs that wait for them in the parent."""
        self._lock = threading.Lock()
        self._idle = []
        self._waiting.clear()
        self._reserved_for = None

    def _wait(self, job: Callable[[], None]) -> None:
        """Have the next thread that is free run the job."""
        with self._lock:
            if self._idle:
                self._idle.pop().jobs.put(job)
            else:
                self._waiting.append(job)

    def _rest(self, worker: _Worker) -> bool:
        """Return whether the worker should wait for another job."""
        with self._lock:
            if self._waiting:
                worker.jobs.put(self._waiting.popleft())
                return True
            if not self._closed:
                self._idle.append(worker)
            return not self._closed

    def _retire(self, worker: _Worker) -> bool:
        """Return whether the worker may end. It may not if a job was given to it meanwhile."""
        loop = self._reserved_for
        with self._lock:
            is_last = loop is not None and not loop.is_closed() and len(self._idle) == 1
            if worker in self._idle and not is_last:
                self._idle.remove(worker)
                return True
            return False


class _Worker:
    """A thread that runs the jobs of its queue; None ends it."""

    def __init__(self, idle: float, rest: Callable[[_Worker], bool], retire: Callable[[_Worker], bool]) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle, self._rest, self._retire = idle, rest, retire
        self.thread = threading.Thread(target=self._work, name="simba_actors", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=self._idle)
            except queue.Empty:
                if self._retire(self):
                    return
                continue
            if job is None:
                return
            job()
            del job
            if not self._rest(self):
                return


def _run(call: Callable[[], Any], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any]) -> None:
    try:
        deliver = partial(_give, answer, call())
    except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
        deliver = partial(_fail, answer, raised_in_thread(error))
    with suppress(RuntimeError):  # The loop is closed: nobody waits.
        loop.call_soon_threadsafe(deliver)


def _give(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
