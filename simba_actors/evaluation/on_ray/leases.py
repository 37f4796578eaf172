"""Leases on LM calls: workers send the calls, and the governor of the optimizer's process admits them.

A worker asks for a lease before each attempt, reports what came of it, and gives it back if it was not needed. So the
budget, and the limits, pauses and circuit breakers of endpoints, hold over all workers. The leases of a worker that
dies count as used.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, cast

from simba_actors.evaluation.on_ray.messages import (
    CallAnswered,
    CallFailed,
    CallLeft,
    FromWorker,
    LeaseWanted,
    Reply,
    TokensUsed,
    UsageReported,
    Withdrawn,
    restored,
    sent,
)
from simba_actors.lm.budget import COUNTED, UNKNOWN, CallSize
from simba_actors.lm.endpoint import Endpoint, Slot
from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.limits import Limits
from simba_actors.lm.retry import CircuitBreaker, FailedCall
from simba_actors.lm.usage import calls, prompt_characters, reported_cost, tokens


class LeasingGovernor(Governor):
    """The governor of a worker, which leases its calls from that of the optimizer's process.

    Args:
        send: Sends a message to the optimizer's process, from any thread.
    """

    def __init__(self, send: Callable[[FromWorker], None]) -> None:
        super().__init__()
        self._send = send
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[None] | Future[None]] = {}
        self._leased: dict[str, LeasedEndpoint] = {}

    def endpoint(self, name: str) -> LeasedEndpoint:
        if name not in self._leased:
            self._leased[name] = LeasedEndpoint(name, self._send, self._clock)
        return self._leased[name]

    async def admit(
        self,
        endpoint: Endpoint,
        caller: Caller,
        check: Callable[[], None] | None = None,
        size: CallSize = UNKNOWN,
    ) -> Slot:
        number = next(self._numbers)
        await self._ask(number, LeaseWanted(number, endpoint.name, replace(size, lm=None)))
        try:
            if check is not None:
                check()
        except BaseException:
            self._send(Withdrawn(number))
            raise
        return Lease(endpoint, number, self._send)

    async def recover(self, slot: Slot, endpoint: Endpoint, caller: Caller, failed: FailedCall) -> None:
        lease = cast("Lease", slot)
        lease.hand_over()
        await self._ask(lease.number, CallFailed(lease.number, failed))

    def count_blocking_call(self, size: CallSize = UNKNOWN) -> None:
        """Wait in this thread until a call that blocks the event loop is counted."""
        number, reply = next(self._numbers), Future[None]()
        self._asked[number] = reply
        self._send(LeaseWanted(number, None, replace(size, lm=None)))
        # Not bounded here: a worker that hears nothing from the optimizer's process ends itself.
        reply.result()

    def report(self, entry: Mapping[str, Any]) -> None:
        """Report what an answer used, as far as its history entry says."""
        prompt, completion = tokens(entry)
        known = {
            "model": str(entry.get("model")),
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
            "cost": reported_cost(entry),
            "prompt_characters": prompt_characters(entry),
            "calls": calls(entry),
            COUNTED: entry.get(COUNTED, 1),
        }
        self._send(UsageReported(known))

    def settle_blocking(self, reply: Reply) -> bool:
        """Take a reply that a thread waits for. Return whether it is one. Called in any thread."""
        asked = self._asked.get(reply.number)
        if not isinstance(asked, Future):
            return False
        del self._asked[reply.number]
        _settle(asked, reply)
        return True

    def settle(self, reply: Reply) -> None:
        """Take a reply. A withdrawn call's is ignored."""
        asked = self._asked.pop(reply.number, None)
        if isinstance(asked, asyncio.Future) and not asked.done():
            _settle(asked, reply)

    async def _ask(self, number: int, question: FromWorker) -> None:
        reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked[number] = reply
        self._send(question)
        try:
            await reply
        except asyncio.CancelledError:
            self._asked.pop(number, None)
            self._send(Withdrawn(number))
            raise


def _settle(asked: asyncio.Future[None] | Future[None], reply: Reply) -> None:
    if reply.error is not None:
        asked.set_exception(restored(reply.error))
    else:
        asked.set_result(None)


class LeasedEndpoint(Endpoint):
    """An endpoint as a worker sees it: its limits are kept in the optimizer's process."""

    def __init__(self, name: str, send: Callable[[FromWorker], None], clock: Callable[[], float]) -> None:
        super().__init__(name, Limits(), CircuitBreaker(float("inf"), clock), clock)
        self._send = send

    def used(self, tokens: int) -> None:
        self._send(TokensUsed(self.name, tokens))


class Lease(Slot):
    """The right to send one call."""

    __slots__ = ("_send", "number")

    def __init__(self, endpoint: Endpoint, number: int, send: Callable[[FromWorker], None]) -> None:
        super().__init__(endpoint)
        self.number = number
        self._send = send

    def answered(self) -> None:
        if self._give_back():
            self.endpoint.has_answered = True  # Answers are counted in the optimizer's process.
            self._send(CallAnswered(self.number))

    def leave(self) -> None:
        if self._give_back():
            self._send(CallLeft(self.number))

    def hand_over(self) -> None:
        """Leave it to the optimizer's process to give the slot of a failed call back."""
        self._give_back()


class LeaseOffice:
    """The leases of one worker, kept in the optimizer's process.

    Args:
        governor: Admits the calls.
        caller: The run's hooks.
        reply: Sends a reply to the worker.
    """

    def __init__(self, governor: Governor, caller: Caller, reply: Callable[[Reply], None]) -> None:
        self._governor, self._caller, self._reply = governor, caller, reply
        self._held: dict[int, tuple[Endpoint, Slot]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def held(self) -> int:
        """Leases that are out."""
        return len(self._held)

    def take(self, message: FromWorker) -> None:
        """Handle a message of the worker."""
        match message:
            case LeaseWanted(number=number, endpoint=None, size=size):
                self._start(number, self._count(size))
            case LeaseWanted(number=number, endpoint=str(name), size=size):
                self._start(number, self._grant(number, self._governor.endpoint(name), size))
            case CallAnswered(number=number):
                self._returned(number)[1].answered()
            case CallLeft(number=number):
                self._returned(number)[1].leave()
            case CallFailed(number=number, failed=failed):
                endpoint, slot = self._returned(number)
                self._start(number, self._governor.recover(slot, endpoint, self._caller, failed))
            case Withdrawn(number=number):
                self._withdraw(number)
            case UsageReported(entry=entry):
                if self._caller.on_answer is not None:
                    self._caller.on_answer(entry)
            case TokensUsed(endpoint=name, tokens=tokens):
                self._governor.endpoint(name).used(tokens)
            case _:
                raise TypeError(f"no message about calls: {message!r:.80}")

    def close(self) -> None:
        """Count the leases that are out as used, and free their slots: the worker is gone."""
        for task in list(self._tasks.values()):
            task.cancel()
        for _, slot in self._held.values():
            slot.leave()
        self._held.clear()

    def _start(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[number] = task
        task.add_done_callback(partial(self._answer, number))

    def _answer(self, number: int, task: asyncio.Task[None]) -> None:
        del self._tasks[number]
        if not task.cancelled():
            error = task.exception()
            self._reply(Reply(number, None if error is None else sent(error, self._governor.secrets)))

    async def _grant(self, number: int, endpoint: Endpoint, size: CallSize) -> None:
        self._held[number] = endpoint, await self._governor.admit(endpoint, self._caller, size=size)

    async def _count(self, size: CallSize) -> None:
        if self._caller.before_call is not None:
            await self._caller.before_call(size)
        if self._caller.after_call is not None:
            self._caller.after_call(size)  # A call that blocks its worker, of which no end is reported.

    def _withdraw(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None and task.cancel():
            return
        if number in self._held:  # Also if the lease was granted in this very iteration of the loop.
            _, slot = self._returned(number)
            slot.leave()
            if self._caller.not_sent is not None:
                self._caller.not_sent(slot.size)

    def _returned(self, number: int) -> tuple[Endpoint, Slot]:
        """Take back a lease, and return its endpoint and its slot."""
        if number not in self._held:
            raise LookupError(
                f"the worker says that LM call {number} has ended, for which it holds no lease: report this as "
                "an error of simba_actors. Another worker takes its place"
            )
        return self._held.pop(number)
