"""The way in which an LM reaches its provider, which is private to DSPy."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, cast

_ENGINE, _ASYNC_ENGINE = "_engine_spec", "_async_engine_spec"

_IMPORTED_BY_FIRST_CALL = (
    "dspy.clients.call_result",
    "dspy.clients.costs",
    "dspy.clients.engines.streaming",
    "dspy.clients.execution",
    "dspy._vendor.lm15.cloud",
)


def has_async_side(lm: Any) -> bool:
    """Return whether `lm.acall` does what `lm(…)` does.

    It does not if a class overrides only the sync method of a pair, or if an engine was given without its async
    counterpart.
    """
    if not isinstance(getattr(lm, _ENGINE, "auto"), str) and getattr(lm, _ASYNC_ENGINE) is None:
        return False
    cls = cast("type[Any]", type(lm))
    pairs = (("__call__", "acall"), ("forward", "aforward"))
    return all(_depth(cls, sync) >= _depth(cls, asynchronous) for sync, asynchronous in pairs)


def imports_on_first_call(lm: Any) -> bool:
    """Return whether DSPy chooses how to reach the provider, and imports it, at the first call.

    Importing LiteLLM takes seconds.
    """
    return isinstance(getattr(lm, _ENGINE, None), str)


def most_requests(lm: Any, completions: object) -> int:
    """Return how many requests DSPy sends at most for a call that asks for that many completions, its `n`.

    LiteLLM and LMs with a `forward` of their own get one request for all. DSPy's own engines get one for each, and
    which engine it chooses is known only in the call.
    """
    engine = getattr(lm, _ENGINE, "litellm")
    return completions if isinstance(completions, int) and completions > 1 and engine != "litellm" else 1


def lacks_stream(error: BaseException) -> bool:
    """Return whether `error` says that an LM's engine has no `stream` method, which `dspy.streamify` needs."""
    return any(
        isinstance(each, AttributeError) and each.name == "stream" and hasattr(each.obj, "complete")
        for each in (error, error.__cause__)
    )


def import_what_calls_need() -> None:
    """Import the modules of DSPy that the first call of an LM would import.

    If a process forks while another thread imports a module, the import lock stays locked in the child forever.
    """
    for name in _IMPORTED_BY_FIRST_CALL:
        with suppress(ImportError):  # Other versions of DSPy have other modules.
            import_module(name)


def _depth(cls: type[Any], method: str) -> int:
    """Return how far up the class hierarchy the method is defined; the whole depth if it is not."""
    depths = (depth for depth, ancestor in enumerate(cls.__mro__) if method in vars(ancestor))
    return next(depths, len(cls.__mro__))
