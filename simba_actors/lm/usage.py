"""Counting what LM calls used, from what DSPy's own records say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simba_actors.search.trajectory import Usage


class Meter:
    """Adds up governed calls: each attempt that is sent, each answer, and each report of what an answer used.

    An answer without a report leaves the sums unknown. Replies from DSPy's cache are none of the three.
    """

    def __init__(self) -> None:
        self._sent = 0
        self._answered = 0
        self._reports: list[Usage] = []

    def sent(self) -> None:
        self._sent += 1

    def answered(self) -> None:
        self._answered += 1

    def report(self, entry: Mapping[str, Any]) -> int | None:
        """Takes an entry of an LM's history. Returns the tokens that it tells of, if it tells."""
        prompt, completion = tokens(entry)
        if prompt is None and completion is None:
            return None
        self._reports.append(Usage(0, prompt, completion, entry.get("cost")))
        return (prompt or 0) + (completion or 0)

    @property
    def total(self) -> Usage:
        silent = [Usage(0, None, None, None)] if len(self._reports) < self._answered else []
        return sum([*self._reports, *silent], start=Usage(calls=self._sent))


def tokens(entry: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Of the prompt and of the completion, as far as an entry of an LM's history tells of them."""
    usage: Mapping[str, Any] = entry.get("usage") or {}
    return _first(usage, "prompt_tokens", "input_tokens"), _first(usage, "completion_tokens", "output_tokens")


def _first(usage: Mapping[str, Any], *names: str) -> int | None:
    return next((usage[name] for name in names if usage.get(name) is not None), None)
