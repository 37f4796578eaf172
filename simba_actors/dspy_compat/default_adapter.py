"""The adapter that DSPy's predictors use where none is set.

A predictor makes a new `dspy.ChatAdapter` for each call then. A run has a faster one, but must not set it as
`dspy.settings.adapter`: students may look there to find out whether the user has set one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import dspy
from dspy.predict import predict

from simba_actors.dspy_compat.model_facts import with_known_capabilities
from simba_actors.dspy_compat.prompt_cache import with_prompt_cache

DEFAULT = "simba_actors_default_adapter"
"""The name in `dspy.settings` of the adapter for predictors where `dspy.settings.adapter` is None."""


def adapter_settings(adapter: Any) -> dict[str, Any]:
    """Return settings for `dspy.context` that have predictors use a faster copy of `adapter`, or of the default one.

    The second needs `honour_default_adapters`.
    """
    faster = with_known_capabilities(with_prompt_cache(adapter or dspy.ChatAdapter()))
    return {"adapter": None if adapter is None else faster, DEFAULT: faster}


def honour_default_adapters() -> Callable[[], None]:
    """Have predictors use the default adapter of `adapter_settings`. Return a function that undoes it; call it once.

    DSPy has no setting for this. Therefore the first use replaces the class that predictors make an adapter of, and
    undoing the last one restores it.
    """
    return _adapters.begin()


class _DefaultAdapters:
    """The uses of `honour_default_adapters`, and the function in place of DSPy's class while there are any."""

    def __init__(self) -> None:
        self._users = 0
        self._lock = threading.RLock()  # The garbage collector may end a use while this thread begins one.

    def begin(self) -> Callable[[], None]:
        with self._lock:
            self._users += 1  # Before the check, since the only other use may end at any line.
            if self._users == 1 and cast("Any", predict).ChatAdapter is dspy.ChatAdapter:
                cast("Any", predict).ChatAdapter = _default_adapter
        return self._end

    def _end(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and getattr(predict, "ChatAdapter", None) is _default_adapter:
                cast("Any", predict).ChatAdapter = dspy.ChatAdapter


def _default_adapter() -> Any:
    settings: Any = dspy.settings
    return settings.get(DEFAULT) or dspy.ChatAdapter()


_adapters = _DefaultAdapters()
