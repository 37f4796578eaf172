"""What `Optimizer.start` returns: it can be awaited, and entered as an async context manager."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

O = TypeVar("O", bound=AbstractAsyncContextManager[Any])  # noqa: E741 - an optimizer


class Starting(Generic[O]):
    """A run that is about to start: await it, or enter it as an async context manager.

    Args:
        kind: What it is an object of once it has started.
        start: Starts it.
    """

    def __init__(self, kind: type[O], start: Callable[[], Awaitable[O]]) -> None:
        self._kind = kind
        self._start: Callable[[], Awaitable[O]] | None = start
        self._started: O | None = None

    def __await__(self) -> Generator[Any, None, O]:
        start, self._start = self._start, None
        if start is None:
            raise RuntimeError("this Optimizer.start(config) was awaited already: call Optimizer.start again")
        return start().__await__()

    async def __aenter__(self) -> O:
        self._started = await self
        return self._started

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started is not None:
            await self._started.__aexit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(self._kind, name):
            raise AttributeError(
                f"Optimizer.start(config) has not started yet, so it has no {name!r}: write "
                "`optimizer = await Optimizer.start(config)`"
            )
        raise AttributeError(name)

    def __del__(self) -> None:
        if vars(self).get("_start") is not None:
            warnings.warn(
                "Optimizer.start(config) was never awaited, so nothing was started: write "
                "`optimizer = await Optimizer.start(config)`",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )
