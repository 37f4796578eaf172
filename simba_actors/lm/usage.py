"""Usage of LM calls, read from the entries that DSPy writes into histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any, cast

from simba_actors.dspy_compat.prices import price_of
from simba_actors.search.rollout import Usage

MOST_TOKENS, MOST_DOLLARS = 10**12, 1e9
"""Highest plausible usage of one call. If a provider reports more, the usage counts as unknown."""

CUT_OFF_REASONS = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
"""Finish reasons, in lower case, of a reply that ended at its token limit. Custom LMs pass on those of providers."""


_PROMPT, _COMPLETION = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
"""Names of both counts in the reports of DSPy and of providers."""


class Meter:
    """Adds up governed calls: attempts that were sent, answers, and the usage that answers report.

    An answer without a report makes the sums unknown. Replies from DSPy's cache do not count.
    """

    def __init__(self) -> None:
        self._sent = 0
        self._answered = 0
        self._more_calls = 0
        self._reports: list[Usage] = []

    def sent(self) -> None:
        """Count an attempt."""
        self._sent += 1

    def answered(self) -> None:
        """Count an answer."""
        self._answered += 1

    def report(self, entry: Mapping[str, Any], *, sent: bool = True) -> int | None:
        """Count an entry of an LM's history. Return its tokens, or None if it does not have them.

        `sent` is False for a call that was not counted as sent, since DSPy's cache was known to have its reply.
        """
        prompt, completion = tokens(entry)
        if prompt is not None or completion is not None:
            self._more_calls += calls(entry) - sent
            self._reports.append(Usage(0, prompt, completion, reported_cost(entry)))
            return (prompt or 0) + (completion or 0)
        if sent:
            self._more_calls += calls(entry) - 1
            if is_from_cache(entry):
                self._reports.append(Usage(0, 0, 0, 0.0))
        return None

    @property
    def total(self) -> Usage:
        """Usage of all calls so far."""
        silent = [Usage(0, None, None, None)] if len(self._reports) < self._answered else []
        return sum([*self._reports, *silent], start=Usage(calls=self._sent + self._more_calls))


def entry_of_response(lm: Any, response: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `lm.forward(**arguments)` has returned as an entry of the LM's history, as DSPy would write it."""
    reported: Any = None if _get(response, "cache_hit") else _get(response, "usage")
    usage = cast("Any", reported) if isinstance(reported, Mapping) else getattr(reported, "__dict__", {})
    hidden: Any = _get(response, "_hidden_params") or {}
    cost: float | None = hidden.get("response_cost")
    prompt, completion = tokens({"usage": usage})
    if cost is None and (prompt or completion) and (price := price_of(lm)) is not None:
        cost = (prompt or 0) * price[0] + (completion or 0) * price[1]
    kwargs = {name: value for name, value in arguments.items() if name not in ("prompt", "messages")}
    return {
        "prompt": arguments.get("prompt"),
        "messages": arguments.get("messages"),
        "kwargs": kwargs,
        "response": response,
        "usage": usage,
        "cost": cost,
        "model": lm.model,
        "response_model": _get(response, "model"),
    }


def calls(entry: Mapping[str, Any]) -> int:
    """Return how many requests to a provider an entry stands for.

    It is 1 except for a reply from DSPy's cache, for a Run of a remote student, and for several completions of an LM
    that makes one in each request.
    """
    if is_from_cache(entry):
        return 0
    response = entry.get("response")
    several = len(cast("tuple[Any, ...]", response)) if isinstance(response, tuple) else 1
    return cast("int", entry.get("calls", several))


def tokens(entry: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the prompt's and the completion's tokens, as far as an entry of an LM's history has them."""
    usage = entry.get("usage")
    if not isinstance(usage, Mapping):
        return None, None
    known = cast("Mapping[str, Any]", usage)
    return _first(known, *_PROMPT), _first(known, *_COMPLETION)


def is_from_cache(entry: Mapping[str, Any]) -> bool:
    """Return whether DSPy's cache has answered: the reply is marked, or has the usage that the entry lacks.

    A call that was sent to a provider may end like that too, if an equal one was answered while it waited for its turn.
    """
    if tokens(entry) != (None, None):
        return False
    response: Any = entry.get("response")
    replies = cast("Sequence[Any]", response) if isinstance(response, list | tuple) else [response]
    return any(_get(reply, "cache_hit") is True or _has_tokens(_get(reply, "usage")) for reply in replies)


def _has_tokens(usage: Any) -> bool:
    return any(_is_count(_get(usage, name)) for name in (*_PROMPT, *_COMPLETION))


def prompt_characters(call: Mapping[str, Any]) -> int:
    """Return the length of a call's prompt: of its `prompt` or of the texts in its `messages`.

    `call` is an entry of an LM's history, or the arguments of a call. An entry from another process has the length in
    place of the texts, as `prompt_characters`.
    """
    counted = call.get("prompt_characters")
    if isinstance(counted, int):
        return counted
    messages = call.get("messages")
    if not isinstance(messages, list | tuple):
        prompt = call.get("prompt")
        return len(prompt) if isinstance(prompt, str) else 0
    return sum(_characters(_get(message, "content")) for message in cast("list[Any]", messages))


def _characters(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list | tuple):
        return 0
    return sum(len(text) for part in cast("list[Any]", content) if isinstance(text := _get(part, "text"), str))


def was_cut_off(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry of an LM's history is about a reply that ended at its token limit."""
    response: Any = entry.get("response")
    responses = cast("list[Any]", response) if isinstance(response, list) else [response]
    parts = [*responses, *(choice for each in responses for choice in _get(each, "choices") or ())]
    return any(
        str(_get(part, "finish_reason")).lower() in CUT_OFF_REASONS or _get(part, "status") == "incomplete"
        for part in parts
    )


def _get(value: Any, name: str) -> Any:
    return cast("Mapping[str, Any]", value).get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _first(usage: Mapping[str, Any], *names: str) -> int | None:
    return next((int(usage[name]) for name in names if _is_count(usage.get(name))), None)


def _is_count(value: Any) -> bool:
    return _is_amount(value, MOST_TOKENS)


def _is_amount(value: Any, most: float) -> bool:
    """Return whether a value is a number in range. Models on this machine count in NumPy's types, too."""
    if not isinstance(value, Real | Decimal):
        return False
    try:
        return 0 <= float(value) <= most
    except (OverflowError, ValueError):  # An integer beyond floats, or a signaling NaN.
        return False


def reported_cost(entry: Mapping[str, Any]) -> float | None:
    """Return what an entry of an LM's history says that the call cost, in US dollars."""
    value: Any = entry.get("cost")
    return float(value) if _is_amount(value, MOST_DOLLARS) else None
