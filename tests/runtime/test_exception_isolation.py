"""What a student raises ends its rollout, and neither its task nor the host."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from simba_actors.runtime.exception_isolation import isolated


async def raises(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [GeneratorExit(), SystemExit(1), asyncio.CancelledError()], ids=repr)
async def test_an_error_of_the_interpreters_is_one_like_any_other(error: BaseException) -> None:
    with pytest.raises(RuntimeError, match=f"{type(error).__name__}.* was not caught"):
        await isolated(raises(error))


async def test_an_error_of_the_users_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError):
        await isolated(raises(KeyError("x")))


async def test_a_coroutine_can_be_closed() -> None:
    closed: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append("closed")

    work: Any = isolated(waits())
    work.send(None)
    await asyncio.to_thread(work.close)
    assert closed == ["closed"]
    gc.collect()
