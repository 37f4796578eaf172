"""The sentences of a student's own instructions, each of which a search may leave out.

own = "Classify the message. Answer in French."
without(own, ["Answer in French."])              # "Classify the message."
omitted_from("Classify the message.", own)       # (["Answer in French."], "")
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

MOST_SENTENCES = 12
"""Maximum number of pieces that instructions are split into. In longer ones, a piece is a group of sentences."""

WRITTEN_BY_DSPY = re.compile(r"Given the fields .*, produce the fields .*\.", re.DOTALL)
"""The instructions that DSPy writes for a signature without any."""

PARAGRAPH = "\n\n"
"""Separator before each paragraph that was added to instructions."""

_PIECE = re.compile(r".+?(?:[.!?]+[\"')\]]*(?=\s)|\n|\Z)\s*", re.DOTALL)


@lru_cache(maxsize=1024)
def sentences_of(instructions: str) -> tuple[str, ...]:
    """Return the sentences, or lines, of instructions in their order; none if DSPy wrote them."""
    return tuple(piece.strip() for piece in _pieces(instructions))


def without(instructions: str, omitted: Collection[str]) -> str:
    """Return the instructions without these sentences; empty, so that DSPy writes its own, if none is left."""
    return "".join(piece for piece in _pieces(instructions) if piece.strip() not in omitted).rstrip()


def omitted_from(text: str, instructions: str) -> tuple[list[str], str] | None:
    """Return the sentences of the instructions that `text` lacks, and the paragraphs after those that it has.

    Return None if it lacks none, or does not begin with sentences of the instructions in their order.
    """
    paragraphs = text.split(PARAGRAPH)
    for count in range(len(paragraphs), -1, -1):
        head = PARAGRAPH.join(paragraphs[:count])
        omitted = _lacking(head, instructions)
        if omitted and (count or text.startswith(PARAGRAPH)) and without(instructions, omitted) == head:
            return omitted, text[len(head) :]
    return None


def _lacking(head: str, instructions: str) -> list[str]:
    omitted: list[str] = []
    for piece in _pieces(instructions):
        if head.startswith(piece) or head == piece.rstrip():
            head = head[len(piece) :]
        else:
            omitted.append(piece.strip())
    return omitted


@lru_cache(maxsize=1024)
def _pieces(instructions: str) -> tuple[str, ...]:
    """Return the sentences with the space after them, in at most `MOST_SENTENCES` groups."""
    if WRITTEN_BY_DSPY.fullmatch(instructions.strip()):
        return ()
    pieces = [match[0] for match in _PIECE.finditer(instructions) if match[0].strip()]
    size = -(-len(pieces) // MOST_SENTENCES) or 1
    return tuple("".join(pieces[n : n + size]) for n in range(0, len(pieces), size))
