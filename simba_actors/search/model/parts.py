"""Parts: the rules, demos and other changes that programs are made of. Each is valued separately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

PartKind: TypeAlias = Literal["instructions", "omission", "rule", "demo", "setting"]
"""What a part is: instructions that replace the student's own, an omission of one of their sentences, a rule appended
to them, a demo, or the value of an LM setting or of another text."""

UNCOUNTED: tuple[PartKind, ...] = ("omission", "setting")
"""Kinds of parts that do not make a prompt longer."""


@dataclass(frozen=True, slots=True)
class Part:
    """One instruction text, omission, rule, demo or setting of one predictor."""

    part_id: str
    """Digest of the content, the same in every process."""
    predictor: str
    """The predictor's name in the student."""
    kind: PartKind
    text: str
    """The text of instructions or a rule, or all fields of a demo, joined. Empty for a setting."""
    fields: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    """The fields of a demo as text, or the name and value of a setting."""

    @property
    def place(self) -> tuple[str, str]:
        """Where the part goes: its predictor, and its kind or, for a setting, the setting's name."""
        return self.predictor, next(iter(self.fields)) if self.kind == "setting" else self.kind
