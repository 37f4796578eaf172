"""A process's mailbox: an asyncio queue with a lane that passes everything else."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Base of what travels in the fast lane: exit signals, requests to stop, `sys` requests."""


class Mailbox(asyncio.Queue[Any]):
    """First in, first out, system messages before all others.

    `maxsize` bounds the ordinary messages, 0 being no bound: `put` waits for room and `put_nowait` raises
    `asyncio.QueueFull`, but no message is ever dropped. System messages always find room, so that a full mailbox can
    still be shut down. A suspended mailbox hands out system messages only. Once closed it takes everything and keeps
    nothing.
    """

    suspended = False
    _maxsize: int
    _getters: deque[asyncio.Future[None]]
    _putters: deque[asyncio.Future[None]]

    def _init(self, maxsize: int) -> None:
        self._ordinary: deque[Any] = deque()
        self._system: deque[SystemMessage] = deque()

    def _get(self) -> Any:
        return self._system.popleft() if self._system else self._ordinary.popleft()

    def qsize(self) -> int:
        return len(self._system) + len(self._ordinary)

    def empty(self) -> bool:
        return not self._system and (self.suspended or not self._ordinary)

    def full(self) -> bool:
        return 0 < self._maxsize <= len(self._ordinary)

    def put_nowait(self, item: Any) -> None:
        if self.full():
            raise asyncio.QueueFull
        self._ordinary.append(item)
        self._wake(self._getters)

    def put_system(self, message: SystemMessage) -> None:
        """Puts `message` in the fast lane, whatever the bound."""
        self._system.append(message)
        self._wake(self._getters)

    def close(self) -> None:
        """Lets go of everything waiting in the mailbox, and of everyone waiting to put something in."""
        self._ordinary = deque(maxlen=0)
        self._system = deque(maxlen=0)
        while self._putters:
            self._wake(self._putters)

    @staticmethod
    def _wake(waiters: deque[asyncio.Future[None]]) -> None:
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break
