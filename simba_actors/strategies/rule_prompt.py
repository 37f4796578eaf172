"""Prompts that ask the prompt model for advice, in the words of `dspy.SIMBA`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import dspy
import orjson

from simba_actors.dspy_compat.custom_types import named
from simba_actors.errors import AdviceTooLongError, PromptTooLongError
from simba_actors.search.rollout import JSON, Trajectory
from simba_actors.strategies.contract import PromptModel

NOT_AVAILABLE = "N/A"
"""What `dspy.SIMBA` writes in place of a score that is withheld."""

LEAST_PROMPT = 4_000
"""Minimum number of characters to which a prompt that is refused as too long is shortened."""

LONGEST_ADVICE = 20_000
"""Maximum number of characters of advice for a predictor at a time, some 5,000 tokens.

Advice is a few sentences. An LM that repeats itself without end writes megabytes, and every later call would send them.
"""

Prompt = dict[str, str]
"""The inputs of a signature as text, by field name."""


async def ask_for_advice(
    prompt_model: PromptModel, signature: type[dspy.Signature], prompts: Iterable[Prompt], output: str = "module_advice"
) -> Mapping[str, str]:
    """Return the advice for each predictor, asked with the first of `prompts` that fits the LM's context window.

    If none fits, the last one is shortened by halves until it does. `output` names the field of the signature that has
    the advice.

    Raises:
        PromptTooLongError: Even a prompt of about `LEAST_PROMPT` characters was refused.
        AdviceTooLongError: The advice for a predictor has more than `LONGEST_ADVICE` characters.
        Exception: See `PromptModel.ask`.
    """
    prompt: Prompt = {}
    refusal: PromptTooLongError | None = None
    for prompt in prompts:
        try:
            return await _advice(prompt_model, signature, prompt, output)
        except PromptTooLongError as error:
            refusal = error
    size = sum(map(len, prompt.values())) // 2
    while size >= LEAST_PROMPT:
        try:
            return await _advice(prompt_model, signature, shortened(prompt, size), output)
        except PromptTooLongError as error:
            refusal = error
        size //= 2
    raise refusal or ValueError("there is no prompt to ask with")


async def _advice(
    prompt_model: PromptModel, signature: type[dspy.Signature], prompt: Prompt, output: str
) -> Mapping[str, str]:
    answer: Any = await prompt_model.ask(signature, **prompt)
    advice: Mapping[str, str] = getattr(answer, output)
    for predictor, text in advice.items():
        if len(text) > LONGEST_ADVICE:
            raise AdviceTooLongError(
                f"the prompt model wrote {len(text):,} characters of advice for {predictor!r}, more than the maximum "
                f"of {LONGEST_ADVICE:,}: {text[:80]!r}… If this recurs, set max_tokens of `prompt_model` or use "
                "another LM"
            )
    return advice


def shortened(prompt: Prompt, size: int) -> Prompt:
    """Cut the middle of the longest fields so that all fields together have about `size` characters."""
    left, limit = size, size
    lengths = sorted(map(len, prompt.values()))
    for index, length in enumerate(lengths):
        limit = left // (len(lengths) - index)
        if length > limit:
            break
        left -= length
    return {name: _without_middle(text, limit) for name, text in prompt.items()}


def _without_middle(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = limit // 2
    head = limit - tail
    return f"{text[:head]}\n[… {len(text) - limit:,} characters left out …]\n{text[len(text) - tail :]}"


def program_code(program: dspy.Module) -> str:
    """Return the source of the program's class, or its signatures if the class has no source, like one from `exec`.

    A class that stands for a program elsewhere, such as `RemoteStudent`, returns the text itself.
    """
    described: Any = getattr(type(program), "shown_to_rule_writer", None)
    if described is not None:
        return described(program)
    source = _source(type(program))
    return source or f"class {type(program).__name__}(dspy.Module):  # source not available\n{program!r}"


@lru_cache(maxsize=64)
def _source(program: type[dspy.Module]) -> str | None:
    """Read the source once: parsing a large file blocks the event loop for 20 ms and more."""
    try:
        return inspect.getsource(program)
    except (OSError, TypeError):
        return None


def run_fields(trajectory: Trajectory) -> dict[str, JSON]:
    """Return a trajectory as the fields of DSPy's signature, whose names begin with "better_" or "worse_"."""
    return {
        "program_trajectory": [
            {"module_name": step.predictor, "inputs": dict(step.inputs), "outputs": dict(step.outputs)}
            for step in trajectory.trace
        ],
        "program_outputs": dict(trajectory.prediction or {}),
        "reward_value": trajectory.score,
        "reward_info": dict(trajectory.feedback),
    }


def withheld(run: dict[str, JSON]) -> dict[str, JSON]:
    """Return the fields of a run with its content left out, as DSPy does where there is no better run."""
    return {
        **run,
        "program_trajectory": [],
        "program_outputs": {NOT_AVAILABLE: "Prediction not available"},
        "reward_value": NOT_AVAILABLE,
    }


def as_prompt(fields: Mapping[str, JSON]) -> Prompt:
    """Return `fields` as text: strings as they are, and other values as JSON."""
    return {name: value if isinstance(value, str) else _pretty(value) for name, value in fields.items()}


def _pretty(value: JSON) -> str:
    """Return `value` as indented JSON, with the names of images, audio and files in place of their content."""
    return orjson.dumps(_with_named_media(value), option=orjson.OPT_INDENT_2).decode()


def _with_named_media(value: JSON) -> JSON:
    match value:
        case str():
            return named(value)
        case list():
            return [_with_named_media(item) for item in value]
        case dict():
            return {name: _with_named_media(item) for name, item in value.items()}
        case _:
            return value
