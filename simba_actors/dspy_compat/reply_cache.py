"""A check of whether DSPy's cache can answer a call without asking a provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy
from dspy.clients import execution


def has_cached_reply(lm: Any, prompt: Any, kwargs: Mapping[str, Any], *, asynchronous: bool) -> bool:
    """Return whether the cache would answer `lm(prompt, **kwargs)`. May read the disk.

    A call that can't be prepared has no cached reply: DSPy says what is wrong with it when it is made.
    """
    if not kwargs.get("cache", lm.cache):
        return False
    options = dict(kwargs)
    steps: Any = execution
    try:
        prompt = options.pop("prompt", prompt)  # A direct call of `forward` may name it.
        prepared = steps.prepare(lm, prompt, options.pop("messages", None), options, asynchronous=asynchronous)
    except Exception:  # noqa: BLE001 - the call itself raises it again
        return False
    cache: Any = dspy.cache
    if not prepared.cache:
        return False
    return cache.get(prepared.key(lm, asynchronous), steps.IGNORED_CACHE_KEYS) is not None
