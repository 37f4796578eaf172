"""The prompt of a configuration as chat messages, where the student's code is not at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dspy

from simba_actors.programs.configuration import Configuration
from simba_actors.search.trajectory import JSON


def prompt_messages(
    configuration: Configuration, predictor: str, inputs: Mapping[str, JSON], outputs: Iterable[str]
) -> list[dict[str, str]]:
    """Return the messages that DSPy's default adapter sends for one call of a predictor, with "role" and "content".

        messages = prompt_messages(configuration, "self", {"question": "What is 1 + 1?"}, ["answer"])

    Args:
        configuration: Gives the instructions and demos.
        predictor: The predictor's name in the student.
        inputs: The values of its input fields.
        outputs: The names of its output fields.

    The store does not keep the types and descriptions of fields. All fields are text here: a student with typed fields
    sends the same messages with a remark about the type at each field.
    """
    fields: dict[str, Any] = {name: (str, dspy.InputField()) for name in inputs}
    fields |= {name: (str, dspy.OutputField()) for name in outputs}
    signature: Any = dspy.Signature(fields, configuration.instructions(predictor))  # pyright: ignore[reportArgumentType, reportCallIssue] - DSPy documents this form
    demos = [dict(demo) for demo in configuration.demos(predictor)]
    adapter: Any = dspy.ChatAdapter()
    return [
        {"role": str(message["role"]), "content": str(message["content"])}
        for message in adapter.format(signature, demos, dict(inputs))
    ]
