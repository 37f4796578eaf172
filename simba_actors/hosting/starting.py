"""What `Optimizer.start` returns: a coroutine that can also be entered as an async context manager."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar

O = TypeVar("O", bound=AbstractAsyncContextManager[Any])  # noqa: E741 - an optimizer


class Starting(Coroutine[Any, Any, O]):
    """A run that is about to start: await it, or enter it as an async context manager.

    It is a coroutine, since `asyncio.create_task`, `asyncio.run` and `asyncio.run_coroutine_threadsafe` accept nothing
    else.

    Args:
        kind: The class of the started object.
        start: Returns the started object.
    """

    def __init__(self, kind: type[O], start: Callable[[], Coroutine[Any, Any, O]]) -> None:
        self._kind = kind
        self._start: Callable[[], Coroutine[Any, Any, O]] | None = start
        self._coroutine: Coroutine[Any, Any, O] | None = None
        self._started: O | None = None

    def __await__(self) -> Generator[Any, None, O]:
        return self._begin().__await__()

    def send(self, value: Any) -> Any:
        """Run until the next wait, as tasks do."""
        if self._coroutine is None:
            self._coroutine = self._begin()
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error at the current wait, as tasks do on cancellation."""
        if self._coroutine is None:
            self._coroutine = self._begin()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End the start; if it has not begun, nothing is started."""
        self._start = None
        if self._coroutine is not None:
            self._coroutine.close()

    def _begin(self) -> Coroutine[Any, Any, O]:
        start, self._start = self._start, None
        if start is None:
            raise RuntimeError("this Optimizer.start(config) was awaited already: call Optimizer.start again")
        return start()

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
