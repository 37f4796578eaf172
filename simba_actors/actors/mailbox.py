"""Mailboxes: an asyncio queue with a fast lane for system messages."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Base of messages that use the fast lane: exit signals, stop requests, requests of the `sys` module."""


@dataclass(frozen=True, slots=True)
class CastEnvelope:
    """A cast in a mailbox. A call in a mailbox is the `From` of its caller."""

    message: Any


class Mailbox(asyncio.Queue[Any]):
    """A first-in, first-out queue that delivers system messages before all others.

    `maxsize` bounds the ordinary messages; 0 means no bound. In a full mailbox `put` waits for room and `put_nowait`
    raises `asyncio.QueueFull`. No message is ever dropped. System messages ignore the bound, so that a process with a
    full mailbox can still be shut down. A suspended mailbox delivers system messages only. A closed mailbox accepts
    everything and keeps nothing.
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
        """Add `message` to the fast lane, regardless of the bound."""
        self._system.append(message)
        self._wake(self._getters)

    def close(self) -> None:
        """Drop all messages and wake everyone who waits to add one."""
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
