"""The examples' task: route a user's message to one of four topics."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import chatterbot_corpus
import dspy
import yaml

Topic = Literal["ai", "coding", "trivia", "smalltalk"]

SOURCES: dict[str, tuple[str, ...]] = {
    "ai": ("ai",),
    "coding": ("coding",),
    "trivia": ("trivia",),
    "smalltalk": ("conversations", "greetings", "emotion", "gossip", "humor"),
}
MESSAGES_A_TOPIC = 68


class Route(dspy.Signature):
    """Say which topic the message is about: ai, coding, trivia or smalltalk."""

    message: str = dspy.InputField()
    topic: Topic = dspy.OutputField()


def router() -> dspy.Module:
    return dspy.Predict(Route)


def same_topic(example: Any, prediction: Any, trace: Any = None) -> bool:
    return example.topic == prediction.topic


def messages() -> tuple[list[dspy.Example], list[dspy.Example]]:
    """Return about 135 messages to train on and as many held out, in a fixed order with all topics mixed."""
    found = {topic: _messages(files) for topic, files in SOURCES.items()}
    topics = Counter(asked for of_topic in found.values() for asked in of_topic)
    halves: tuple[list[dspy.Example], list[dspy.Example]] = ([], [])
    for topic, of_topic in found.items():
        own = sorted((message for asked, message in of_topic.items() if topics[asked] == 1), key=_shuffled)
        for place, message in enumerate(own[:MESSAGES_A_TOPIC]):
            halves[place % 2].append(dspy.Example(message=message, topic=topic).with_inputs("message"))
    train, held_out = (sorted(half, key=lambda example: _shuffled(example.message)) for half in halves)
    return train, held_out


def _messages(files: tuple[str, ...]) -> dict[str, str]:
    """Return the first message of each conversation in these files, by its text in lower case."""
    data = Path(chatterbot_corpus.__file__).parent / "data" / "english"
    found: dict[str, str] = {}
    for name in files:
        for conversation in yaml.safe_load((data / f"{name}.yml").read_text(encoding="utf-8"))["conversations"]:
            found.setdefault(conversation[0].strip().lower(), conversation[0].strip())
    return found


def _shuffled(message: str) -> str:
    return hashlib.sha256(message.encode()).hexdigest()
