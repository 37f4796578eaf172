"""Whether DSPy's cache can answer a call, so that no provider is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy
from dspy.clients import execution


def has_cached_reply(lm: Any, prompt: Any, kwargs: Mapping[str, Any], *, asynchronous: bool) -> bool:
    """Whether `lm(prompt, **kwargs)` would be answered by the cache. May read the disk."""
    if not kwargs.get("cache", lm.cache):
        return False
    options = dict(kwargs)
    steps: Any = execution
    prepared = steps.prepare(lm, prompt, options.pop("messages", None), options, asynchronous=asynchronous)
    cache: Any = dspy.cache
    if not prepared.cache:
        return False
    return cache.get(prepared.key(lm, asynchronous), execution.IGNORED_CACHE_KEYS) is not None
