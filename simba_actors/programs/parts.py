"""Taking configurations apart into instructions, rules and demos, and putting them together again."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import orjson

from simba_actors.algorithm.parts import Part, PartKind
from simba_actors.algorithm.trajectory import JSON
from simba_actors.programs.configuration import Configuration

RULE_SEPARATOR = "\n\n"
"""Between the instructions and each rule, as in `dspy.SIMBA`."""


@dataclass(frozen=True, slots=True)
class PartWithValue:
    """A part with what it puts into a configuration: text, or the fields of a demo."""

    part: Part
    value: JSON


def parts_of(configuration: Configuration, student: Configuration) -> tuple[PartWithValue, ...]:
    """What `configuration` has, in its order, each once.

    Where a predictor's instructions begin with the student's own, each paragraph after them is a rule; otherwise the
    first paragraph stands in place of them. Each demo is a part.
    """
    parts: list[PartWithValue] = []
    for predictor in configuration.predictors:
        text, own = configuration.instructions(predictor), student.instructions(predictor)
        if text == own or text.startswith(own + RULE_SEPARATOR):
            rules = text[len(own) :].split(RULE_SEPARATOR)[1:]
        else:
            instructions, *rules = text.split(RULE_SEPARATOR)
            parts.append(_part(predictor, "instructions", instructions))
        parts += [_part(predictor, "rule", rule) for rule in rules if rule.strip()]
        parts += [_part(predictor, "demo", dict(demo)) for demo in configuration.demos(predictor)]
    return tuple({entry.part.part_id: entry for entry in parts}.values())


def assemble(parts: Iterable[PartWithValue], student: Configuration) -> Configuration:
    """The student's configuration with these parts, in their order, in place of its own demos."""
    texts = {name: [student.instructions(name)] for name in student.predictors}
    demos: defaultdict[str, list[dict[str, JSON]]] = defaultdict(list)
    for entry in parts:
        match entry.part.kind:
            case "instructions":
                texts[entry.part.predictor][0] = cast("str", entry.value)
            case "rule":
                texts[entry.part.predictor].append(cast("str", entry.value))
            case "demo":
                demos[entry.part.predictor].append(cast("dict[str, JSON]", entry.value))
    configuration = student
    for name in student.predictors:
        configuration = configuration.with_instructions(name, RULE_SEPARATOR.join(texts[name]))
        configuration = configuration.with_demos(name, demos[name])
    return configuration


def _part(predictor: str, kind: PartKind, value: str | dict[str, JSON]) -> PartWithValue:
    content = orjson.dumps([predictor, kind, value], option=orjson.OPT_SORT_KEYS)
    text = value if isinstance(value, str) else " ".join(str(field) for field in value.values())
    return PartWithValue(Part(hashlib.sha256(content).hexdigest()[:16], predictor, kind, text), value)
