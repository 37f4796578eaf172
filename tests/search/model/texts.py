"""Examples made of texts and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simba_actors.search.model.examples import Examples, ExampleText


def examples_of(texts: Sequence[str], labels: Sequence[Mapping[str, str]] | None = None) -> Examples:
    """Return train examples with these texts and, if given, labels."""
    return Examples([ExampleText(text, {} if labels is None else labels[n]) for n, text in enumerate(texts)])
