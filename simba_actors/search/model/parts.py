"""Parts: the rules and demos that a program adds to the student, so that each can be valued separately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

PartKind: TypeAlias = Literal["instructions", "omission", "rule", "demo", "setting"]
"""A text in place of the student's own instructions, a sentence of those that is left out, a rule appended to them, a
demo, or the value of an LM setting or of another text."""

UNCOUNTED: tuple[PartKind, ...] = ("omission", "setting")
"""Kinds of parts that do not make a prompt longer."""


@dataclass(frozen=True, slots=True)
class Part:
    """One instruction text, omission, rule, demo or setting of one predictor.

    `part_id` is a digest of the content, the same in every process. `fields` are the fields of a demo as text, and
    `text` is all of them joined. A setting has its name and value as its only field, and no text.
    """

    part_id: str
    predictor: str
    kind: PartKind
    text: str
    fields: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)

    @property
    def place(self) -> tuple[str, str]:
        """The predictor, and what it can hold only a few of: demos, rules, or values of one setting."""
        return self.predictor, next(iter(self.fields)) if self.kind == "setting" else self.kind
