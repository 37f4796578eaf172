"""Crashes of an actor at chosen messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from simba_actors.actors import GenServer

When = Literal["before", "after"]

CALLBACKS = ("handle_call", "handle_cast", "handle_info", "handle_continue")


class InjectedCrashError(Exception):
    """The error that an actor is made to raise."""


@dataclass
class Injector:
    """Counts the messages that an actor handles, and raises before or after it handles each message in `at`.

    `says` is added to the error's message, and `crashed` has the messages at which it raised. `wrap` also takes other
    methods than an actor's callbacks; `what` then names what is counted.
    """

    at: Container[int] = ()
    when: When = "before"
    what: str = "message"
    says: str = ""
    handled: int = 0
    crashed: list[int] = field(default_factory=list[int])

    def wrap(self, callback: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(owner: Any, *args: Any) -> Any:
            self.handled += 1
            number = self.handled
            if self.when == "before":
                self._crash_at(number)
            answer = await callback(owner, *args)
            if self.when == "after":
                self._crash_at(number)
            return answer

        return wrapped

    def _crash_at(self, number: int) -> None:
        if number in self.at:
            self.crashed.append(number)
            raise InjectedCrashError(f"{self.when} {self.what} {number}{self.says}")


def inject(monkeypatch: pytest.MonkeyPatch, actor: type[GenServer[Any]], injector: Injector) -> Injector:
    """Wrap the callbacks of the class `actor` in `injector`, and return it."""
    for name in CALLBACKS:
        monkeypatch.setattr(actor, name, injector.wrap(getattr(actor, name)))
    return injector
