"""Keeps credentials out of everything that is stored, logged or raised."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any, cast

from simba_actors.programs.values import text_of

HIDDEN = "[hidden]"

LEAST_LENGTH = 6
"""Shorter values ("none", "x") are placeholders for local servers. Hiding them would garble texts."""

LONGEST_ERROR = 10_000
"""Characters of an error's text that are kept: its beginning and its end."""

LOOKS_SECRET = re.compile(
    r"(?<=://)[^/@\s]+(?=@)"  # Credentials in an address.
    r"|(?<=Bearer )[\w.~+/=-]{6,}"
    r"|\b(?:sk|pk|rk|key|ghp|hf|xai|gsk)[-_][\w-]{8,}|\bAIza[\w-]{30,}"  # What providers' keys begin with.
)

IN_QUERY = re.compile(
    r"([?&](?:key|code|api[-_]?key|apikey|access[-_]?token|token|sig|signature|password|secret)=)[^&\s'\"]+",
    re.IGNORECASE,
)

SECRET_SETTINGS = re.compile(r"key|token|secret|password|passwd|credential|auth|cookie|signature", re.IGNORECASE)
"""Names of settings, headers and environment variables whose values are credentials."""

NOT_SECRET = re.compile(r"^max_|_tokens$|^rollout_id$|tokenizer|author(s|ity)?$|TOKENIZERS_", re.IGNORECASE)
"""Names that only look like those of credentials."""

LOOKS_LIKE_KEY = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w~+=%-]{20,}")
"""A path segment of letters and digits that is too long for a name: gateways take keys there."""

PLAIN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "content-type",
        "http-referer",
        "openai-beta",
        "user-agent",
        "x-title",
    }
)
"""Headers that hold no credentials. Gateways use any other name for theirs."""

IN_ENVIRONMENT = re.compile(r"API_?KEY|ACCESS_?KEY|SECRET|TOKEN|PASSWORD|PASSWD|(BASE|ENDPOINT|URL|PROXY)$")
"""Environment variables that may hold credentials, or addresses with credentials in them."""

SCHEMES = re.compile(r"^(Bearer|Basic|Token|Api-Key|Key)\s+", re.IGNORECASE)


class Secrets:
    """Hides the credentials of known LMs, and whatever looks like a credential.

    secrets = Secrets()
    secrets.learn(lm)
    secrets.hide(text)
    """

    def __init__(self) -> None:
        self._known: list[str] = []
        self._lock = Lock()  # LMs are learned in several threads.

    def learn(self, lm: Any) -> None:
        """Note each possible credential of the LM, in its settings, headers and address and in the environment.

        DSPy and LiteLLM read keys from the environment at each call, so its values are read here too.
        """
        own = cast("dict[str, Any]", vars(lm))
        attributes = {name: value for name, value in own.items() if isinstance(value, str)}
        found = {*_credentials_in(lm.kwargs), *_credentials_in(attributes), *_credentials_in(_environment())}
        self._add(value for value in found if len(value) >= LEAST_LENGTH)

    def add(self, credential: str) -> None:
        """Note a credential that belongs to no LM. A short one is not hidden, since that would garble texts."""
        if len(credential) >= LEAST_LENGTH:
            self._add([credential])

    def _add(self, credentials: Iterable[str]) -> None:
        with self._lock:
            # The longest first, since a credential may hold another one.
            self._known = sorted({*self._known, *credentials}, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Return `text` without credentials, and without halves of surrogate pairs, which nothing can print or send."""
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        return IN_QUERY.sub(rf"\1{HIDDEN}", LOOKS_SECRET.sub(HIDDEN, text))

    def redact(self, error: BaseException) -> None:
        """Hide credentials in the messages of an error and of those behind it, which tracebacks and crash logs show."""
        for each in _errors_in(error):
            with suppress(Exception):  # A class of the user's may refuse. What is stored and logged is hidden anyway.
                each.args = tuple(self.hide(arg) if isinstance(arg, str) else arg for arg in each.args)
            with suppress(Exception):  # Some errors have a property of that name.
                message = getattr(each, "message", None)
                if isinstance(message, str):
                    each.message = self.hide(message)  # pyright: ignore[reportAttributeAccessIssue]

    def describe(self, error: BaseException) -> str:
        """Return what an error says, without keys and in at most `LONGEST_ERROR` characters or so.

        DSPy's error for a reply that it can't read holds all of the reply, which may have megabytes.
        """
        text = self.hide(f"{type(error).__name__}: {text_of(error)}")
        left_out = len(text) - LONGEST_ERROR
        if left_out <= 0:
            return text
        half = LONGEST_ERROR // 2
        return f"{text[:half]}\n[… {left_out:,} characters left out …]\n{text[-half:]}"


def _errors_in(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from or during."""
    seen: set[int] = set()
    ahead = [error]
    while ahead:
        current = ahead.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            yield current
            ahead += [current.__cause__, current.__context__]


def _environment() -> dict[str, str]:
    """Return the variables that may hold credentials. Words and paths are left out: hiding them would garble texts."""
    found = {name: value for name, value in os.environ.items() if IN_ENVIRONMENT.search(name.upper())}
    return {name: value for name, value in found.items() if "://" in value or _IS_RANDOM.fullmatch(value)}


_IS_RANDOM = re.compile(r"(?=.*[\d_.=+-])[^\s/]\S{9,}")


def _credentials_in(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the credentials among settings, however deeply they are nested, and those in addresses."""
    for name, value in list(settings.items()):
        if isinstance(value, Mapping):
            inner = cast("Mapping[str, Any]", value)
            if "header" in str(name):
                inner = {
                    f"auth {header}": text for header, text in inner.items() if header.lower() not in PLAIN_HEADERS
                }
            yield from _credentials_in(inner)
        elif isinstance(value, list | tuple):
            for each in cast("Iterable[Any]", value):
                yield from _credentials_in({name: each})
        elif isinstance(value, str):
            if SECRET_SETTINGS.search(str(name)) and not NOT_SECRET.search(str(name)):
                yield from _spellings(SCHEMES.sub("", value))
                if "cookie" in str(name).lower():
                    for cookie in value.split(";"):
                        yield from _spellings(cookie.partition("=")[2].strip())
            if "://" in value:
                yield from _credentials_in_address(value)


def _credentials_in_address(address: str) -> Iterator[str]:
    """Yield the password, the query's credentials and those parts of the path that look like keys."""
    try:
        parts = urllib.parse.urlsplit(address)
        password = parts.password
    except ValueError:
        return
    if password:
        yield from _spellings(password)
    for name, value in urllib.parse.parse_qsl(parts.query):
        if name.lower() == "code" or SECRET_SETTINGS.search(name) or name.lower() == "sig":
            yield from _spellings(value)
    for segment in parts.path.split("/"):
        if LOOKS_LIKE_KEY.fullmatch(segment):
            yield from _spellings(segment)


def _spellings(value: str) -> Iterator[str]:
    """Yield a credential as it is and as it is written in an address."""
    yield value
    quoted = urllib.parse.quote(value, safe="")
    if quoted != value:
        yield quoted
