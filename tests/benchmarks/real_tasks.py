"""Three tasks for a real model, of data that ships in packages: topics, languages and continents."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import chatterbot_corpus
import dspy
import yaml

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from topics import messages, router, same_topic

Split = tuple[list[dspy.Example], list[dspy.Example]]

CONTINENTS = ("africa", "america", "asia", "europe")
LANGUAGES = ("english", "german", "italian", "spanish")
LETTERS = range(12, 31)
"""Lengths of the messages whose language is asked for, in characters."""


class Language(dspy.Signature):
    """Say which language the message is in: english, german, italian or spanish."""

    message: str = dspy.InputField()
    language: Literal["english", "german", "italian", "spanish"] = dspy.OutputField()


class Continent(dspy.Signature):
    """Say which continent the country is in: africa, america, asia or europe."""

    country: str = dspy.InputField()
    continent: Literal["africa", "america", "asia", "europe"] = dspy.OutputField()


@dataclass(frozen=True)
class RealTask:
    student: Callable[[], dspy.Module]
    metric: Callable[..., bool]
    split: Callable[[], Split]
    """Return the examples to train on and those held out, in a fixed order."""
    max_demos: int
    """Demos that a program may have, whoever makes it."""


def same_language(example: Any, prediction: Any, trace: Any = None) -> bool:
    return example.language == prediction.language


def same_continent(example: Any, prediction: Any, trace: Any = None) -> bool:
    return example.continent == prediction.continent


def languages() -> Split:
    """Return 25 messages of each language to train on, and 32 held out."""
    texts = {language: _texts(language) for language in LANGUAGES}
    counts = Counter(text.lower() for of_language in texts.values() for text in of_language)
    examples = {
        language: [
            dspy.Example(message=text, language=language).with_inputs("message")
            for text in of_language
            if counts[text.lower()] == 1
        ]
        for language, of_language in texts.items()
    }
    return _halves(examples, "message", train=25, held_out=32)


def continents() -> Split:
    """Return 23 countries and territories of each continent to train on, and as many held out.

    A country is where its time zones are, and left out if they are in several places.
    """
    zones = files("tzdata") / "zoneinfo"
    places: dict[str, set[str]] = defaultdict(set)
    for code, _, zone, *_ in _rows(zones / "zone.tab"):
        places[code].add(zone.split("/")[0].lower())
    examples: dict[str, list[dspy.Example]] = {continent: [] for continent in CONTINENTS}
    for code, country in _rows(zones / "iso3166.tab"):
        if len(places[code]) == 1 and (continent := min(places[code])) in examples:
            examples[continent].append(dspy.Example(country=country, continent=continent).with_inputs("country"))
    return _halves(examples, "country", train=23, held_out=23)


def _rows(table: Traversable) -> list[list[str]]:
    lines = table.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def _texts(language: str) -> set[str]:
    """Return the short messages of all conversations in the language."""
    folder = Path(chatterbot_corpus.__file__).parent / "data" / language
    conversations = (
        conversation
        for file in folder.glob("*.yml")
        for conversation in yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]
    )
    texts = {text.strip() for conversation in conversations for text in conversation if isinstance(text, str)}
    return {text for text in texts if len(text) in LETTERS}


def _halves(examples: Mapping[str, Iterable[dspy.Example]], field: str, train: int, held_out: int) -> Split:
    """Return `train` and `held_out` examples of each label, mixed."""

    def mixed(found: Iterable[dspy.Example]) -> list[dspy.Example]:
        return sorted(found, key=lambda example: hashlib.sha256(example[field].encode()).hexdigest())

    drawn: Sequence[list[dspy.Example]] = [mixed(of_label) for of_label in examples.values()]
    return (
        mixed(example for of_label in drawn for example in of_label[:train]),
        mixed(example for of_label in drawn for example in of_label[train : train + held_out]),
    )


TASKS = {
    "router": RealTask(router, same_topic, messages, max_demos=8),
    "language": RealTask(lambda: dspy.Predict(Language), same_language, languages, max_demos=4),
    "continent": RealTask(lambda: dspy.Predict(Continent), same_continent, continents, max_demos=4),
}
