"""The reply behind a provider's error, which DSPy's client drops where it has another form than OpenAI's."""

from __future__ import annotations

import traceback
from typing import Any

from dspy.utils.exceptions import LMError

LONGEST_REPLY = 2_000
"""Characters of a reply that are added to an error."""

ADVICE, HINT = "\n\n  To fix:", "\n\n  "
"""What precedes the advice, and any hint, that DSPy's client adds to what the provider says."""


def add_reply(error: Any) -> None:
    """Add what the provider sent to an error that says nothing.

    DSPy reads `{"error": {"message": …}}`. Servers such as vLLM, SGLang, Mistral's and Cohere's send `{"message": …}`,
    and gateways send forms of their own. DSPy's error then has no text, and the reply is only in the frame of its
    client that has read it.
    """
    message = error.message if isinstance(error, LMError) else "said"
    if message.partition(HINT)[0].strip():
        return
    text = _reply_to(error.__cause__)[:LONGEST_REPLY].strip()
    if text:
        error.message = f"{text}{message}"
        before, hint, after = str(error).partition(HINT)
        error.args = (f"{before.strip()} {text}{hint}{after}",)


def _reply_to(error: BaseException | None) -> str:
    if error is None:
        return ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("dspy._vendor.lm15.providers."):
            reply: Any = frame.f_locals.get("resp")
            if hasattr(reply, "text"):
                return reply.text()
    return ""
