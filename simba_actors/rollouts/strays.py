"""Exceptions that mean something to asyncio, where a student or a metric raises them."""

from __future__ import annotations


def raisable(error: BaseException) -> BaseException:
    """`error` as a future can hold it and a coroutine raise it: a StopIteration becomes a RuntimeError (PEP 479)."""
    if not isinstance(error, StopIteration):
        return error
    stray = RuntimeError(f"{error!r} was not caught: give next() a default, or catch it")
    stray.__cause__ = error
    return stray
