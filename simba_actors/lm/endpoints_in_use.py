"""Which endpoints optimizations call, for others in the process who call them too."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary, WeakValueDictionary

from simba_actors.lm.endpoint import Endpoint

_in_use: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, Endpoint]] = WeakKeyDictionary()


def put_in_use(endpoint: Endpoint) -> None:
    """An optimization of the running event loop is about to call it."""
    _in_use.setdefault(asyncio.get_running_loop(), WeakValueDictionary())[endpoint.name] = endpoint


def any_in_use() -> bool:
    return bool(_in_use)


def all_in_use() -> list[Endpoint]:
    """Those of all event loops of the process that are still open. May be asked in any thread."""
    open_loops = [endpoints for loop, endpoints in list(_in_use.items()) if not loop.is_closed()]
    return [endpoint for endpoints in open_loops for endpoint in list(endpoints.values())]


def in_use_here(name: str) -> Endpoint | None:
    """The endpoint of that name that the running event loop's optimizations call."""
    endpoints = _in_use.get(asyncio.get_running_loop())
    return None if endpoints is None else endpoints.get(name)


def in_use_elsewhere(name: str) -> tuple[asyncio.AbstractEventLoop, Endpoint] | None:
    """The endpoint of that name that another thread's event loop has in use, and that loop."""
    for loop, endpoints in list(_in_use.items()):
        endpoint = endpoints.get(name)
        if endpoint is not None and loop.is_running():
            return loop, endpoint
    return None
