"""A process's mailbox: an asyncio queue with a lane that passes everything else."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Base of what travels in the fast lane: exit signals, `sys` requests, timers."""


class Mailbox(asyncio.Queue[Any]):
    """First in, first out, system messages before all others.

    `maxsize` bounds the ordinary messages, 0 being no bound: `put` waits for room and `put_nowait` raises
    `asyncio.QueueFull`, but no message is ever dropped. System messages always find room, so that a full mailbox can
    still be shut down. A suspended mailbox hands out system messages only.
    """

    suspended = False
    _unbounded = False
    _putters: deque[asyncio.Future[None]]

    def _init(self, maxsize: int) -> None:
        self._ordinary: deque[Any] = deque()
        self._system: deque[SystemMessage] = deque()

    def _get(self) -> Any:
        return self._system.popleft() if self._system else self._ordinary.popleft()

    def _put(self, item: Any) -> None:
        (self._system if isinstance(item, SystemMessage) else self._ordinary).append(item)

    def qsize(self) -> int:
        return len(self._system) + len(self._ordinary)

    def empty(self) -> bool:
        return not self._system and (self.suspended or not self._ordinary)

    def full(self) -> bool:
        return not self._unbounded and 0 < self.maxsize <= len(self._ordinary)

    def put_system(self, message: SystemMessage) -> None:
        """Puts `message` in the fast lane, whatever the bound."""
        self._unbounded = True
        try:
            self.put_nowait(message)
        finally:
            self._unbounded = False

    def close(self) -> None:
        """Lets go of everything waiting in the mailbox, and of everyone waiting to put something in."""
        self._unbounded = True
        self._ordinary.clear()
        self._system.clear()
        for putter in self._putters:
            if not putter.done():
                putter.set_result(None)
