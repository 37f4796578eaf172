"""An LM whose replies hold terminal escapes, markup and other attacks."""

from __future__ import annotations

from typing import Any

from tests.support.quiz import right_answer
from tests.support.scripted_lm import Ask

SCRIPT = "<script>alert(1)</script>"
STEERING = "\x1b[31mred\x1b[0m \u202eevil"
LONG = "x" * 1_000_000
ADVICE = f"Rule: {STEERING} {SCRIPT} <img src=x onerror=alert(1)>"


def hostile_script(ask: Ask) -> dict[str, Any]:
    """Knows the answers now and then; its other answers and its advice are hostile, or a megabyte long."""
    if "module_advice" in ask.fields:
        return {"discussion": "", "module_advice": {"self": ADVICE}}
    if ask.chance("knows") < 0.5:
        return {"answer": right_answer(ask.input("question"))}
    return {"answer": LONG if ask.chance("long") < 0.6 else f"{SCRIPT}{STEERING}"}
