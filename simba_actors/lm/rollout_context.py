"""The context of a rollout, to which its LM calls report."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token
from types import TracebackType
from typing import Any, Self

import dspy

from simba_actors.lm.endpoint import Slot
from simba_actors.lm.usage import Meter
from simba_actors.runtime.inherited_context import inherit_in_threads

SETTING = "simba_actors_rollout"
"""The name of the rollout context in `dspy.settings`, which DSPy carries into every thread that it starts."""


class RolloutOverError(Exception):
    """A call belongs to a rollout that has ended. It was not sent, since nothing needs its result."""


class Deadline:
    """A time limit for a block of code, whose clock stops while a call waits for its turn.

        async with Deadline(300.0) as deadline:
            prediction = await student.acall(question="…")

    When `seconds` have passed, the block is cancelled and left without an error.
    """

    def __init__(self, seconds: float) -> None:
        self.task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._left = seconds
        self._ends: float | None = None
        """The loop time at which the block is cancelled; None while the clock stands still."""
        self._timer: asyncio.TimerHandle | None = None
        self._pauses = 0
        self._ended = False
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._run()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            return True
        return False

    def pause(self) -> None:
        """Stop the clock until `resume` has been called as often as `pause`."""
        self._pauses += 1
        if self._pauses == 1 and self._ends is not None and self._can_change:
            self._left, self._ends = self._ends - self._loop.time(), None

    def resume(self) -> None:
        """Start the clock again, unless another wait keeps it stopped."""
        self._pauses -= 1
        if self._pauses == 0 and self._can_change:
            self._run()

    @property
    def _can_change(self) -> bool:
        """Whether the block is still running. A call in a thread may outlive it and end its wait afterwards."""
        return not self._ended and not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether the block was cancelled because its time is up."""
        return self._timeout.expired()

    @property
    def seconds_left(self) -> float:
        """Seconds until the block is cancelled."""
        return self._left if self._ends is None else max(0.0, self._ends - self._loop.time())

    def _run(self) -> None:
        self._ends = self._loop.time() + self._left
        if self._timer is None:
            self._set_timer(self._ends)

    def _set_timer(self, when: float) -> None:
        # A cancelled timer stays in the loop for a while, with its context. An empty context holds no rollout in
        # memory.
        self._timer = self._loop.call_at(when, self._look, context=Context())

    def _look(self) -> None:
        """Cancel the block if its time is over. The timer stays where it was set when the clock stops or starts."""
        self._timer = None
        if self._ends is None:
            return
        if self._ends > self._loop.time():
            self._set_timer(self._ends)
        else:
            self._timeout.reschedule(self._ends)


class RolloutContext:
    """Collects the usage of a rollout's LM calls, and the first error that ends it, even if the student catches it.

    It travels in `dspy.settings`, so that LM calls find it in every task and thread of the rollout. As a context
    manager it also is the current rollout of threads that are started in the block without its context:

        with dspy.context(**{SETTING: rollout}), rollout:
            ...

    Args:
        meter: Counts the calls.
        deadline: The rollout's time limit, if it has one.
        keeps_history: Whether DSPy's histories get the calls too.
        govern: Returns the governed twin of an LM that the rollout's code calls directly.
    """

    def __init__(
        self,
        meter: Meter,
        deadline: Deadline | None = None,
        *,
        keeps_history: bool = True,
        govern: Callable[[Any], Any] | None = None,
    ) -> None:
        self.meter = meter
        self.keeps_history = keeps_history
        self.govern = govern
        self.stopped_by: Exception | None = None
        self.cut_off = False
        """Whether an LM's reply ended at its token limit."""
        self.hung_at: str | None = None
        """The endpoint that had not answered when the time was up; None if there was no such endpoint or several."""
        self._deadline = deadline
        self._slots: set[Slot] = set()
        self._over = False
        self._token: Token[weakref.ref[RolloutContext] | None] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> RolloutContext:
        return self

    def __enter__(self) -> Self:
        self._token = _of_threads.set(weakref.ref(self))  # A thread that lives on must not keep it alive.
        return self

    def __exit__(self, *error: object) -> None:
        if self._token is not None:
            _of_threads.reset(self._token)
            self._token = None

    @property
    def is_over(self) -> bool:
        return self._over

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Pause the deadline for the block, in which a call waits for its turn."""
        deadline = self._deadline  # Kept here, since `end` forgets it while a call in a thread may still wait.
        if deadline is None:
            yield
            return
        deadline.pause()
        try:
            yield
        finally:
            deadline.resume()

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rollout may still take; None if it has no limit."""
        return None if self._deadline is None else self._deadline.seconds_left

    def is_of_task_that_runs_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether `loop` is running the rollout's own task, which then can't be awaiting this thread."""
        return self._deadline is not None and asyncio.current_task(loop) is self._deadline.task

    def stop(self, error: Exception) -> None:
        """End the rollout with `error`, unless another error has ended it before."""
        self.stopped_by = self.stopped_by or error

    def check(self) -> None:
        """Raise RolloutOverError if the rollout has ended."""
        if self._over:
            raise RolloutOverError("the rollout of this LM call has ended; the call was not sent")

    def hold(self, slot: Slot) -> None:
        """Note the slot of a call in flight. No cancellation ends one in a thread."""
        self._slots.add(slot)

    def let_go(self, slot: Slot) -> None:
        """Forget the slot of a call that is over, unless the end of the rollout's time has cut it short."""
        if self._deadline is None or not self._deadline.is_over:
            self._slots.discard(slot)

    def end(self) -> None:
        """Mark the rollout as ended, and give back the slots of threads that still hang."""
        self._over = True
        if self._deadline is not None and self._deadline.is_over:
            silent = {slot.endpoint.name for slot in self._slots}
            self.hung_at = silent.pop() if len(silent) == 1 else None
        for slot in list(self._slots):
            slot.leave()
        self._slots.clear()
        # Contexts that outlive the rollout, such as those of connections it opened, hold this object.
        self._deadline = None
        if self.govern is not None:
            self.govern = _refuse


def _refuse(lm: Any) -> Any:
    raise RolloutOverError(f"the rollout that called {lm.model} has ended; the call was not sent")


_of_threads: ContextVar[weakref.ref[RolloutContext] | None] = ContextVar("simba_actors_rollout", default=None)
"""The rollout that has started this thread."""


def inherit_rollouts() -> Callable[[], None]:
    """Have threads belong to the rollout that starts them, if it is current there. Return what undoes that."""
    return inherit_in_threads(_of_threads)


def current_rollout() -> RolloutContext | None:
    """Return the rollout that this code runs in, if any.

    A thread that a rollout's code starts itself does not inherit `dspy.context`, but belongs to the rollout until the
    rollout is over.
    """
    settings: Any = dspy.settings
    rollout = settings.get(SETTING)
    if rollout is not None:
        return rollout
    reference = _of_threads.get()
    rollout = None if reference is None else reference()
    return None if rollout is None or rollout.is_over else rollout
