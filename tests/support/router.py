"""The examples' task, routing messages to topics, and an LM for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from tests.support.scripted_lm import Ask

EXAMPLES = Path(__file__).parents[2] / "examples"


def _halves() -> tuple[dict[str, str], ...]:
    """Return the topics by message: of those to train on, and of those held out."""
    spec = importlib.util.spec_from_file_location("topics", EXAMPLES / "topics.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tuple({row.message: row.topic for row in half} for half in module.messages())


TRAIN, HELD_OUT = _halves()
TOPICS = TRAIN | HELD_OUT


def knows_with_demos(ask: Ask) -> dict[str, Any]:
    """Answer right if the prompt has demos, and seldom otherwise. Write rules that don't help."""
    if "module_advice" in ask.fields:
        return {"discussion": "", "module_advice": {"self": f"Rule {ask.chance('rule'):.4f}."}}
    helped = any(role == "assistant" for role, _ in ask.messages)
    lucky = ask.temperature == 1.0 and ask.chance("luck") < 0.3
    message = ask.input("message")
    return {"topic": TOPICS.get(message, "trivia") if helped or lucky else "smalltalk"}
