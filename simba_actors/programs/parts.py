"""Taking configurations apart into instructions, omissions, rules, demos and settings, and assembling them again."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import orjson

from simba_actors.programs.configuration import Configuration
from simba_actors.programs.sentences import PARAGRAPH, omitted_from, sentences_of, without
from simba_actors.programs.space import ConfigurationSpace
from simba_actors.programs.variables import split_name
from simba_actors.search.model.parts import Part, PartKind
from simba_actors.search.rollout import JSON

RULE_SEPARATOR = PARAGRAPH
"""Stands between the instructions and each rule, as in `dspy.SIMBA`."""


@dataclass(frozen=True, slots=True)
class PartWithValue:
    """A part, and the value it adds to a configuration: text, the fields of a demo, or a setting's name and value."""

    part: Part
    value: JSON


@lru_cache(maxsize=4096)
def parts_of(configuration: Configuration, student: Configuration) -> tuple[PartWithValue, ...]:
    """Return the parts of `configuration` in its order, each once.

    If a predictor's instructions begin with the student's own, each further paragraph is a rule, and each sentence of
    the student's that is missing is an omission. Otherwise the first paragraph replaces the student's. Each demo is a
    part, and so is each setting that differs from the student's. The parts are cached, since policies need those of
    all programs again and again.
    """
    parts: list[PartWithValue] = []
    for predictor in configuration.predictors:
        text, own = configuration.instructions(predictor), student.instructions(predictor)
        if text == own or text.startswith(own + RULE_SEPARATOR):
            rules = text[len(own) :].split(RULE_SEPARATOR)[1:]
        elif (found := omitted_from(text, own)) is not None:
            parts += [_part(predictor, "omission", sentence) for sentence in found[0]]
            rules = found[1].split(RULE_SEPARATOR)[1:]
        else:
            instructions, *rules = text.split(RULE_SEPARATOR)
            parts.append(_part(predictor, "instructions", instructions))
        parts += [_part(predictor, "rule", rule) for rule in rules if rule.strip()]
        parts += [_part(predictor, "demo", dict(demo)) for demo in configuration.demos(predictor)]
    parts += [
        _setting(name, value) for name, value in configuration.settings.items() if value != student.values.get(name)
    ]
    return tuple({entry.part.part_id: entry for entry in parts}.values())


def assemble(parts: Iterable[PartWithValue], student: Configuration) -> Configuration:
    """Return the student's configuration with these parts, in their order, instead of its own demos."""
    texts = {name: [student.instructions(name)] for name in student.predictors}
    omitted: defaultdict[str, list[str]] = defaultdict(list)
    demos: defaultdict[str, list[dict[str, JSON]]] = defaultdict(list)
    settings: dict[str, JSON] = {}
    for entry in parts:
        match entry.part.kind:
            case "instructions":
                texts[entry.part.predictor][0] = cast("str", entry.value)
            case "omission":
                omitted[entry.part.predictor].append(cast("str", entry.value))
            case "rule":
                texts[entry.part.predictor].append(cast("str", entry.value))
            case "demo":
                demos[entry.part.predictor].append(cast("dict[str, JSON]", entry.value))
            case "setting":
                settings.update(cast("dict[str, JSON]", entry.value))
    for predictor, sentences in omitted.items():
        if texts[predictor][0] == student.instructions(predictor):
            texts[predictor][0] = without(texts[predictor][0], sentences)
    values = settings
    for name in student.predictors:
        values[f"{name}.instructions"] = RULE_SEPARATOR.join(texts[name])
        values[f"{name}.demos"] = cast("JSON", demos[name])
    return student.with_values(values)


def with_parts(configuration: Configuration, student: Configuration, parts: Iterable[PartWithValue]) -> Configuration:
    """Return the configuration with these parts after its own."""
    return assemble([*parts_of(configuration, student), *parts], student)


def text_before_rules(configuration: Configuration, student: Configuration, predictor: str) -> str:
    """Return the predictor's instructions without the rules that were added to them."""
    rules = [
        entry.part.text
        for entry in parts_of(configuration, student)
        if (entry.part.predictor, entry.part.kind) == (predictor, "rule")
    ]
    added = "".join(RULE_SEPARATOR + rule for rule in rules)
    return configuration.instructions(predictor).removesuffix(added)


def omissions(student: Configuration) -> tuple[PartWithValue, ...]:
    """Return a part for each sentence of the student's own instructions, which omits it."""
    return tuple(
        _part(predictor, "omission", sentence)
        for predictor in student.predictors
        for sentence in dict.fromkeys(sentences_of(student.instructions(predictor)))
    )


def setting_parts(space: ConfigurationSpace, student: Configuration) -> tuple[PartWithValue, ...]:
    """Return the values of the space's settings to try besides the student's own."""
    return tuple(
        _setting(name, value)
        for name, setting in space.settings.items()
        for value in setting.levels()
        if value != student.values[name]
    )


def _setting(name: str, value: JSON) -> PartWithValue:
    predictor, attribute = split_name(name)
    part_id = _digest([name, "setting", value])
    return PartWithValue(Part(part_id, predictor, "setting", "", {attribute: str(value)}), {name: value})


def _part(predictor: str, kind: PartKind, value: str | dict[str, JSON]) -> PartWithValue:
    fields = {} if isinstance(value, str) else {name: str(field) for name, field in value.items()}
    text = value if isinstance(value, str) else " ".join(fields.values())
    return PartWithValue(Part(_digest([predictor, kind, value]), predictor, kind, text, fields), value)


def _digest(content: JSON) -> str:
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
