"""A scheduler that lets rollouts take turns, so that the host's event loop can run other work in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

R = TypeVar("R")

SLICE = 0.002
"""Seconds that rollouts may take of each iteration of the event loop."""

MOST_ADMITTED = 8
"""Maximum number of waiting coroutines admitted in one iteration, since their next steps may take longer."""


class FairScheduler:
    """Admits coroutines for `SLICE` seconds of each loop iteration: resumed and new ones by turns.

        await scheduler.begin()

    When the replies to hundreds of rollouts arrive together, each has a reply to read or a prompt to write. Without
    turns they would block the loop for hundreds of milliseconds.

    Resumed and new rollouts take turns, so that a rollout begins soon after another one has ended, and its objects
    replace those that were freed. If all rollouts ended before the next ones begin, the number of objects would rise
    and fall by all of theirs. Python's garbage collector counts each rise, and would go through all objects of the
    process two to three times as often.

    Pays: the loop's delay at the 99th percentile is a sixth of what it is without (tests/benchmarks/README.md).
    """

    def __init__(self) -> None:
        self._resumed: deque[asyncio.Future[None]] = deque()
        self._new: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turning = False
        self._slice_ends = 0.0
        self._new_is_next = False
        self._admitted = 1
        """Coroutines admitted in each iteration while others wait, as many as fit into a slice."""

    def resume(self) -> Awaitable[None] | None:
        """Return what a rollout that has begun must await before it continues; None if it may continue now."""
        return self._place_in(self._resumed)

    async def begin(self) -> None:
        """Wait for a turn, as a rollout that has not begun."""
        place = self._place_in(self._new)
        if place is not None:
            await place

    def _place_in(self, line: deque[asyncio.Future[None]]) -> asyncio.Future[None] | None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # The previous loop has ended, with all that waited on it.
            self._loop, self._turning = loop, False
            for each in (self._resumed, self._new):
                each.clear()
        if not self._turning:
            if loop.time() < self._slice_ends:
                return None
            # Only the next iteration shows whether the loop has run other work since the slice began.
            self._turning = True
            loop.call_soon(self._turn, loop)
        place: asyncio.Future[None] = loop.create_future()
        line.append(place)
        return place

    def _turn(self, loop: asyncio.AbstractEventLoop, last: float | None = None) -> None:
        """Begin a slice and admit as many as fit into it. The last ones were admitted at the time `last`."""
        now = loop.time()
        if last is not None and now - last > SLICE:
            self._admitted = max(1, self._admitted // 2)
        elif last is not None and now - last < SLICE / 2:
            self._admitted = min(MOST_ADMITTED, self._admitted * 2)
        self._slice_ends = now + SLICE
        admitted = 0
        while self._resumed or self._new:
            self._new_is_next = not self._new_is_next
            line = (self._new if self._new_is_next else self._resumed) or self._resumed or self._new
            place = line.popleft()
            if not place.done():
                place.set_result(None)
                admitted += 1
                if admitted == self._admitted:
                    break
        self._turning = bool(self._resumed or self._new)
        if self._turning:
            loop.call_soon(self._turn, loop, now)


class YieldingDriver(Generic[R]):
    """Drives a coroutine as `await` does, and waits for a `turn` each time before it resumes the coroutine.

        answer = await YieldingDriver(lm.acall(messages=messages), scheduler.resume)

    `turn()` returns what to await, or None if there is no need to wait. A cancellation does not wait for a turn.

    Pays: without it the loop's delay at the 99th percentile doubles (tests/benchmarks/README.md).
    """

    def __init__(self, work: Coroutine[Any, Any, R], turn: Callable[[], Awaitable[None] | None]) -> None:
        self._work = work
        self._turn = turn

    def __await__(self) -> Generator[Any, Any, R]:
        raised: BaseException | None = None
        while True:
            try:
                awaited = self._work.send(None) if raised is None else self._work.throw(raised)
            except StopIteration as ended:
                return ended.value
            finally:
                raised = None
            try:
                yield awaited
                turn = self._turn()
                if turn is not None:
                    yield from turn.__await__()
            except BaseException as error:  # noqa: BLE001 - the coroutine must see a cancellation
                raised = error
