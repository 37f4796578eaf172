"""The adapter that DSPy's predictors use where none is set.

A predictor makes a new `dspy.ChatAdapter` for each call then. A run has a faster one, but must not set it as
`dspy.settings.adapter`: students may look there to find out whether the user has set one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
from dspy.predict import predict

from simba_actors.dspy_compat.model_facts import with_known_capabilities
from simba_actors.dspy_compat.prompt_cache import with_prompt_cache
from simba_actors.runtime.replacement import Replacement

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


def _default_adapter() -> Any:
    settings: Any = dspy.settings
    return settings.get(DEFAULT) or dspy.ChatAdapter()


def _in_place_of(known: Any) -> Any:
    """Return what predictors make an adapter of: the default adapter in place of DSPy's class, but of no other."""
    return _default_adapter if known is dspy.ChatAdapter else known


_adapters = Replacement(predict, "ChatAdapter", _in_place_of)
