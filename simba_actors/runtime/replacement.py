"""Another value for an attribute of a module, while anybody needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Replacement:
    """Replaces an attribute of a module at its first use, and restores it after the last one. Thread-safe.

        replacement = Replacement(module, "function", wrapped)
        end = replacement.begin()

    What somebody else sets there meanwhile stays, also if it wraps ours.

    Args:
        module: The module.
        name: The attribute's name.
        make: Returns what to set in place of the attribute's value, which it gets; the value itself to leave it there.
    """

    def __init__(self, module: Any, name: str, make: Callable[[Any], Any]) -> None:
        self._module, self._name, self._make = module, name, make
        self._uses = 0
        self._replaced: tuple[Any, Any] | None = None
        """Our value and the original one, while there are uses."""
        self._lock = threading.RLock()  # The garbage collector may end a use while this thread begins one.

    def begin(self) -> Callable[[], None]:
        """Begin a use, and return a function that ends it. Call that once; it never raises."""
        with self._lock:
            self._uses += 1  # Before the check, since the only other use may end at any line.
            if self._replaced is None:
                original = getattr(self._module, self._name)
                self._replaced = self._make(original), original
                setattr(self._module, self._name, self._replaced[0])
        return self._end

    def _end(self) -> None:
        with self._lock:
            self._uses -= 1
            if self._uses > 0 or self._replaced is None:
                return
            ours, original = self._replaced
            self._replaced = None
            if getattr(self._module, self._name, None) is ours:
                setattr(self._module, self._name, original)
