"""The entry point of a module: its sync or its async method."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, cast

import dspy

SYNC, ASYNC = ("forward", "__call__"), ("aforward", "acall")

PASSED_ON = {"__call__", "acall"}
"""Methods of `dspy.Module` that run `forward` or `aforward`, whichever is defined."""


def runs_async(module: dspy.Module) -> bool:
    """Return whether `module` is to be run by `acall` rather than by calling it.

        class Shout(dspy.ChainOfThought):
            def forward(self, **inputs):
                ...

        runs_async(Shout("question -> answer"))  # False: its own forward counts, not ChainOfThought's aforward

    Whichever of `forward` and `aforward` is defined nearer counts: on the instance, then in its class, then in the
    class's ancestors. If both are defined together, they are assumed to do the same, and `aforward` runs, unless a
    sub-module has a nearer `forward`, which `aforward` would bypass.
    """
    methods = _nearest(module)
    if not methods.intersection(SYNC):
        return bool(methods)
    if not methods.intersection(ASYNC):
        return False
    return all(_nearest(part).intersection(ASYNC) for part in _parts(module))


def method_of(module: dspy.Module) -> Any:
    """Return the method that takes a call's inputs, bound to `module`; None where there is none."""
    names = ASYNC if runs_async(module) else SYNC
    for owner in (module, *type(module).__mro__):
        found = next((vars(owner)[name] for name in names if name in vars(owner)), None)
        if found is not None and _defined_by(owner) != PASSED_ON:
            return found if owner is module else found.__get__(module, type(module))
    return None


def sync_call(module: dspy.Module, call: Callable[..., Any], acall: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs `module` and blocks until it has ended: its own `call`, or its `acall` on a loop."""
    if _nearest(module).intersection(SYNC) or not runs_async(module):
        return call

    async def called(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await acall(*args, **kwargs)

    def run(*args: Any, **kwargs: Any) -> Any:
        run_on_loop = partial(asyncio.run, called(args, kwargs))
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return run_on_loop()
        # A loop can't wait for another one in its own thread.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copy_context().run, run_on_loop).result()

    return run


def _nearest(module: dspy.Module) -> set[str]:
    """Return the names of `SYNC` and `ASYNC` that are defined nearest to `module`."""
    for owner in (module, *type(module).__mro__):
        found = _defined_by(owner)
        if found and found != PASSED_ON:
            return found
    return set()


def _defined_by(owner: Any) -> set[str]:
    return {name for name in (*SYNC, *ASYNC) if name in vars(owner)}


def _parts(module: Any) -> list[dspy.Module]:
    return [part for _, part in module.named_sub_modules(dspy.Module) if part is not module]


def takes(method: Any, names: Set[str]) -> str | None:
    """Return why `method` can't be called with keyword arguments of these `names`; None if it can."""
    try:
        signature = inspect.signature(method, follow_wrapped=False)  # A decorator may add arguments, or take some.
    except (TypeError, ValueError):
        return None  # Some callables that are not written in Python have no signature to look at.
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        name = cast("str", getattr(method, "__name__", "forward"))
        return f"{name}{signature} would be called with {sorted(names)}: {error}"
    return None
