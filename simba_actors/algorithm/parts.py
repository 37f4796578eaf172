"""Parts: what a program has beyond the student's own, so that what each of them is worth can be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

PartKind: TypeAlias = Literal["instructions", "rule", "demo"]
"""A text in place of the student's own instructions, a rule appended to the instructions, or a demo."""


@dataclass(frozen=True, slots=True)
class Part:
    """One instruction text, rule or demo of one predictor.

    `part_id` is a digest of what it puts there, equal in every process; `text` is a demo's fields one after another.
    """

    part_id: str
    predictor: str
    kind: PartKind
    text: str
