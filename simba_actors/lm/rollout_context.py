"""What the LM calls of one rollout report to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from types import TracebackType
from typing import Any, Self

import dspy

from simba_actors.lm.endpoint import Slot
from simba_actors.lm.usage import Meter

SETTING = "simba_actors_watch"
"""The name of the rollout context in `dspy.settings`, which DSPy carries into every thread that it starts."""


class RolloutOverError(Exception):
    """A call of a rollout that has ended: nobody waits for it, so it is not sent."""


class Deadline:
    """A limit of seconds for the block under it, that stands still while the block waits for its turn.

        with Deadline(300.0) as deadline:
            await student.acall(question="…")
            done = True

    If it passes, the block is cancelled and left without an error. Cancelled as in `asyncio.timeout`, which costs a
    timer for each of a rollout's waits; here one timer looks, when its time has come, whether the time has moved.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._waits = 0
        self._passed = False
        self._loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()
        self._when = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._cancelling = 0

    def __enter__(self) -> Self:
        if self.task is None:
            raise RuntimeError("a Deadline is for code that runs in a task")
        self._cancelling = self.task.cancelling()
        self._run_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._passed or self.task is None:
            return False
        return self.task.uncancel() <= self._cancelling and kind is asyncio.CancelledError

    def stop(self) -> None:
        self._waits += 1
        if self._waits == 1:
            self._left = self._when - self._loop.time()
            self._when = math.inf

    def go_on(self) -> None:
        self._waits -= 1
        if self._waits == 0:
            self._run_on()

    def _run_on(self) -> None:
        self._when = self._loop.time() + self._left
        if self._timer is None:
            self._timer = self._look_at(self._when)

    def _look_at(self, when: float) -> asyncio.TimerHandle:
        # In a context of its own: a cancelled timer stays in the loop for long, with the context it was set in.
        return self._loop.call_at(when, self._look, context=Context())

    def _look(self) -> None:
        self._timer = None
        if self._when == math.inf:
            return
        if self._when > self._loop.time():
            self._timer = self._look_at(self._when)
        elif self.task is not None:
            self._passed = True
            self.task.cancel()


class RolloutContext:
    """Keeps what a rollout's LM calls used, and the first error that ends it whatever the student makes of it.

    `keeps_history` is whether DSPy's histories are to hear of the calls as well, `ahead` whether nothing waits for the
    rollout yet. `govern` returns the governed twin of an LM that the rollout's code has reached by itself.
    """

    def __init__(
        self,
        meter: Meter,
        deadline: Deadline | None = None,
        *,
        keeps_history: bool = True,
        ahead: bool = False,
        govern: Callable[[Any], Any] | None = None,
    ) -> None:
        self.meter = meter
        self.keeps_history = keeps_history
        self.ahead = ahead
        self.govern = govern
        self.stopped_by: Exception | None = None
        self.cut_off = False
        """Whether an LM's reply ended at its token limit."""
        self._deadline = deadline
        self._slots: set[Slot] = set()
        self._over = False

    def __deepcopy__(self, memo: dict[int, Any]) -> RolloutContext:
        return self

    @contextmanager
    def waiting(self) -> Generator[None]:
        """For while a call waits for its turn, which is not the rollout's time."""
        if self._deadline is None:
            yield
            return
        self._deadline.stop()
        try:
            yield
        finally:
            self._deadline.go_on()

    def is_of_task_that_runs_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether `loop` is amid the rollout's own task, which then does not await what this thread does."""
        return self._deadline is not None and asyncio.current_task(loop) is self._deadline.task

    def stop(self, error: Exception) -> None:
        self.stopped_by = self.stopped_by or error

    def check(self) -> None:
        """Raises RolloutOverError if the rollout has ended."""
        if self._over:
            raise RolloutOverError("the rollout of this LM call has ended; the call was not sent")

    def hold(self, slot: Slot) -> None:
        """The slot of a call in a thread, which no cancellation can end."""
        self._slots.add(slot)

    def let_go(self, slot: Slot) -> None:
        self._slots.discard(slot)

    def end(self) -> None:
        """The rollout has ended. Slots of threads that still hang are given up."""
        self._over = True
        for slot in list(self._slots):
            slot.leave()
        self._slots.clear()


def current_rollout() -> RolloutContext | None:
    """Return the context of the rollout that this code runs in, if any."""
    settings: Any = dspy.settings
    return settings.get(SETTING)
