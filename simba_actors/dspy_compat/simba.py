"""`dspy.SIMBA`'s own question to the prompt model, in its own words."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.teleprompt import simba_utils


def offer_feedback() -> type[dspy.Signature]:
    """Return the signature that asks what set a better trajectory apart from a worse one."""
    utilities: Any = simba_utils
    return utilities.OfferFeedback


def inspect_modules(program: dspy.Module) -> str:
    """Return each predictor's fields and instructions as text."""
    utilities: Any = simba_utils
    return utilities.inspect_modules(program)
