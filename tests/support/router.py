"""The examples' task, routing messages to topics, and an LM for it."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.scripted_lm import Ask, Script

EXAMPLES = Path(__file__).parents[2] / "examples"


@cache
def halves() -> tuple[dict[str, str], ...]:
    """Return the topics by message: of those to train on, and of those held out. Reading them takes half a second."""
    spec = importlib.util.spec_from_file_location("topics", EXAMPLES / "topics.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tuple({row.message: row.topic for row in half} for half in module.messages())


def topics() -> dict[str, str]:
    """Return the topics of all messages."""
    train, held_out = halves()
    return train | held_out


def knows_with_demos() -> Script:
    """Return a script that answers right if the prompt has demos, and seldom otherwise. Its rules don't help."""
    right = topics()  # Read here, since the threads of a server would each read them.

    def script(ask: Ask) -> dict[str, Any]:
        if "module_advice" in ask.fields:
            return {"discussion": "", "module_advice": {"self": f"Rule {ask.chance('rule'):.4f}."}}
        helped = any(role == "assistant" for role, _ in ask.messages)
        lucky = ask.temperature == 1.0 and ask.chance("luck") < 0.3
        message = ask.input("message")
        return {"topic": right.get(message, "trivia") if helped or lucky else "smalltalk"}

    return script
