"""Crashes of an actor at a chosen message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from simba_actors.actors import GenServer

When = Literal["before", "after"]

CALLBACKS = ("handle_call", "handle_cast", "handle_info", "handle_continue")


class InjectedCrashError(Exception):
    """The error that an actor is made to raise."""


@dataclass
class Injector:
    """Counts the messages that an actor handles, and raises before or after it handles message number `at`.

    With `at=0` it only counts. `says` is added to the error's message.
    """

    at: int = 0
    when: When = "before"
    handled: int = 0
    says: str = ""

    def wrap(self, callback: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(server: GenServer[Any], *args: Any) -> Any:
            self.handled += 1
            here = self.handled == self.at
            if here and self.when == "before":
                raise InjectedCrashError(f"before message {self.at}{self.says}")
            answer = await callback(server, *args)
            if here:
                raise InjectedCrashError(f"after message {self.at}{self.says}")
            return answer

        return wrapped


def inject(monkeypatch: pytest.MonkeyPatch, actor: type[GenServer[Any]], injector: Injector) -> Injector:
    """Wrap the callbacks of the class `actor` in `injector`, and return it."""
    for name in CALLBACKS:
        monkeypatch.setattr(actor, name, injector.wrap(getattr(actor, name)))
    return injector
