"""Live programs whose answers show which version served them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy

from simba_actors.programs import Configuration
from simba_actors.publishing.channel import Channel
from tests.support.children import start_child
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import ended


def said(ask: Ask) -> dict[str, Any]:
    """Answer with the word after "Say" in the instructions, or "nothing" if there is none."""
    return {"answer": ask.system.partition("Say ")[2].split(".")[0] or "nothing"}


def said_by(predictor: Any) -> str:
    """Return what a predictor would answer, without running it."""
    return said(Ask(predictor.signature.instructions, (), None, None))["answer"]


def sayer(**settings: Any) -> Any:
    """Return a student that answers with the word in its instructions."""
    student = dspy.Predict("question -> answer")
    student.lm = ScriptedLM(said, **settings)
    return student


def saying(word: str, predictor: str = "self") -> Configuration:
    return Configuration.of({predictor: (f"Say {word}.", [])})


async def publish(store: Path, *words: str, channel: str = "default", predictor: str = "self") -> None:
    """Publish a version for each word in turn."""
    async with await Channel.open(store, channel) as publisher:
        for word in words:
            await publisher.publish(saying(word, predictor), reason=f"say {word}")


def publish_elsewhere(store: Path, word: str) -> None:
    """Publish a version in another process."""
    assert ended(start_child(publish, store, word)) == 0


async def start_canary(store: Path, word: str, share: float, *, channel: str = "default") -> None:
    async with await Channel.open(store, channel) as publisher:
        await publisher.start_canary(saying(word), share=share, reason=f"try {word}")


async def answer(program: Any) -> str:
    return (await program.acall(question="?")).answer


class ManualClock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
