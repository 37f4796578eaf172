"""The reply behind a provider's error, which DSPy's client drops unless it has the form of OpenAI's."""

from __future__ import annotations

import traceback
from typing import Any

from dspy.utils.exceptions import LMError

LONGEST_REPLY = 2_000
"""Maximum length, in characters, of a reply that is added to an error."""

ADVICE, HINT = "\n\n  To fix:", "\n\n  "
"""Text before the advice, and before any hint, that DSPy's client adds to a provider's message."""


def add_reply(error: Any) -> None:
    """Add what the provider sent to an error that says nothing.

    DSPy reads `{"error": {"message": …}}`. vLLM, SGLang, Mistral and Cohere send `{"message": …}`, and gateways use
    other forms. DSPy's error then has no text, and the reply is found only in the frame of its client that has read it.
    """
    message = error.message if isinstance(error, LMError) else "said"
    if message.partition(HINT)[0].strip():
        return
    text = _reply_to(error.__cause__)[:LONGEST_REPLY].strip()
    if text:
        error.message = f"{text}{message}"
        before, hint, after = str(error).partition(HINT)
        error.args = (f"{before.strip()} {text}{hint}{after}",)


def on_one_line(description: str) -> str:
    """Return an error's description on one line, without the advice that DSPy's client adds.

    It says to try again later, for example, to users whose calls are made again anyway.
    """
    return " ".join(description.partition(ADVICE)[0].split())


def _reply_to(error: BaseException | None) -> str:
    if error is None:
        return ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("dspy._vendor.lm15.providers."):
            reply: Any = frame.f_locals.get("resp")
            if hasattr(reply, "text"):
                return reply.text()
    return ""
