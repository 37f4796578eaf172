"""Differences between configurations, as lines to show."""

from __future__ import annotations

from simba_actors.programs import Configuration


def diff_lines(after: Configuration, before: Configuration) -> list[tuple[str, str]]:
    """Return what `after` changed in `before`: lines with their kind, "added", "removed", "place" or "same"."""
    return [(_kind_of(line), line) for line in after.diff(before).splitlines()]


def _kind_of(line: str) -> str:
    if line.startswith(("---", "+++", "@@")):
        return "place"
    return {"+": "added", "-": "removed"}.get(line[:1], "same")
