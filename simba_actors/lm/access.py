"""How an LM is reached: the settings that say so, and the name of its endpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any
from urllib.parse import urlsplit

ACCESS_SETTINGS = re.compile(
    r"key|token|secret|password|credential|auth|header|api_base|base_url|api_version|endpoint|profile|region|project"
    r"|organization|extra_query|^(aws|azure|vertex)_",
    re.IGNORECASE,
)
"""Names of settings that define how an LM is reached. They are not part of the program, and may change at any time."""

TOKEN_COUNTS = re.compile(r"^max_|_tokens$")
"""Names of settings that are numbers of tokens, not secrets."""


@cache
def is_access_setting(name: str) -> bool:
    """Return whether a setting or attribute of that name says how an LM is reached."""
    return ACCESS_SETTINGS.search(name) is not None and TOKEN_COUNTS.search(name) is None


def renew_access(own: dict[str, Any], originals: Mapping[str, Any]) -> bool:
    """Update the access settings of `own` from `originals`. Return whether any has changed."""
    renewed = {
        name: value for name, value in originals.items() if own.get(name) is not value and is_access_setting(name)
    }
    own.update(renewed)
    return bool(renewed)


def endpoint_name(lm: Any) -> str:
    """Return the model and the host of an LM, without the rest of the address, which may hold secrets."""
    return _endpoint_name(str(lm.model), str(lm.kwargs.get("api_base") or lm.kwargs.get("base_url") or ""))


@lru_cache(maxsize=256)
def _endpoint_name(model: str, base: str) -> str:
    if not base:
        return model
    try:
        address = urlsplit(base)
        host, port = address.hostname, address.port
    except ValueError:  # Such as a port beyond 65535. The first call says what is wrong.
        host, port = None, None
    if host is None:
        return f"{model} at an address that is not valid"
    return f"{model} at {host}{f':{port}' if port else ''}"
