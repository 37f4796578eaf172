"""Keeping keys out of what is stored, logged and told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from simba_actors.programs.values import text_of

HIDDEN = "[hidden]"

LEAST_LENGTH = 6
"""Shorter values ("none", "x") are placeholders that local servers are given; to hide them would garble texts."""

LOOKS_SECRET = re.compile(
    r"(?<=://)[^/@\s]+(?=@)"  # Credentials in an address.
    r"|(?<=Bearer )[\w.~+/=-]{6,}"
    r"|\b(?:sk|pk|rk|key|ghp|hf|xai|gsk)[-_][\w-]{8,}|\bAIza[\w-]{30,}"  # What providers' keys begin with.
    r"|(?<=[?&]key=)[^&\s]+"
)

SECRET_SETTINGS = re.compile(r"key|token|secret|password|authorization", re.IGNORECASE)


class Secrets:
    """Knows the keys of LMs that it was shown, and what keys look like."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def learn(self, lm: Any) -> None:
        """Takes note of what an LM's settings hold."""
        self._known.update(value for value in _secrets_of(lm.kwargs) if len(value) >= LEAST_LENGTH)

    def hide(self, text: str) -> str:
        """`text` without keys, and without halves of surrogate pairs, which nothing can print or send."""
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        return LOOKS_SECRET.sub(HIDDEN, text.encode("utf-8", "backslashreplace").decode("utf-8"))

    def describe(self, error: BaseException) -> str:
        """Return what an error says, without keys."""
        return self.hide(f"{type(error).__name__}: {text_of(error)}")


def _secrets_of(settings: dict[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _secrets_of(value)  # pyright: ignore[reportUnknownArgumentType] - headers and the like
        elif isinstance(value, str):
            if SECRET_SETTINGS.search(name) and not name.startswith("max_"):
                yield value.removeprefix("Bearer ")
            address = urlsplit(value) if "@" in value and "://" in value else None
            if address is not None and address.password:
                yield address.password
