"""An LM with scripted replies: a fixed function of the request, the rollout id and the temperature."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage
from dspy.utils.callback import BaseCallback


@dataclass(frozen=True)
class Ask:
    """One request. `fields` are the output fields that it asks for, and `json` is whether it asks for JSON."""

    system: str
    messages: tuple[tuple[str, str], ...]
    temperature: float | None
    rollout_id: int | None
    max_tokens: int | None = None

    @property
    def last(self) -> str:
        return self.messages[-1][1]

    @property
    def prompt(self) -> str:
        return "\n".join([self.system, *(f"{role}: {text}" for role, text in self.messages)])

    @cached_property
    def fields(self) -> list[str]:
        tail = self.last.rpartition("Respond with ")[2]
        names = re.findall(r"`\[\[ ## (\w+) ## \]\]`", tail) or re.findall(r"`(\w+)`", tail)
        return [name for name in names if name != "completed"]

    @property
    def json(self) -> bool:
        return "Respond with a JSON object" in self.last

    def input(self, field: str) -> str:
        """Return the value of an input field in the last message."""
        return self.last.partition(f"[[ ## {field} ## ]]\n")[2].partition("\n\n[[ ##")[0].partition("\n\nRespond")[0]

    def chance(self, *salt: object) -> float:
        """Return a number in [0, 1) that depends on the request, the rollout id, the temperature and `salt` alone."""
        parts = repr((self.prompt, self.temperature, self.rollout_id, *salt))
        return int.from_bytes(hashlib.sha256(parts.encode()).digest()[:8]) / 2**64


class CutOff(str):
    """A reply that was cut off at the token limit."""


Script = Callable[[Ask], "dict[str, Any] | str"]
"""Returns the values of the output fields, or the whole reply as text."""


Latency = float | Callable[[Ask], float]
"""Seconds that a reply takes: a number, or a function of the request."""


def slow_after(calls: int, seconds: float = 3600.0) -> Latency:
    """Return the latency of an LM that answers this many calls at once and takes `seconds` for each later one."""
    made = itertools.count()
    return lambda _: 0.0 if next(made) < calls else seconds


class ScriptedLM(dspy.LM):
    """`ScriptedLM(script)` replies what `script(ask)` says, after `latency`, and remembers each `Ask` it answered."""

    def __init__(self, script: Script, *, latency: Latency = 0.0, asks: list[Ask] | None = None, **kwargs: Any) -> None:
        engine = _Engine(self)
        super().__init__("scripted/lm", engine=engine, async_engine=_AsyncEngine(engine), cache=False, **kwargs)
        self.script = script
        self.latency = latency
        self.asks: list[Ask] = [] if asks is None else asks

    def copy(self, **kwargs: Any) -> ScriptedLM:
        copied = super().copy(**kwargs)
        engine = _Engine(copied)
        copied._engine_spec, copied._async_engine_spec = engine, _AsyncEngine(engine)
        return copied


class CallCounter(BaseCallback):
    """Counts LM calls when they are made, where `ScriptedLM.asks` has those that were answered.

        calls = CallCounter()
        lm = ScriptedLM(script, callbacks=[calls])

    DSPy prepares a call in a thread before it sends it, so that a call may be answered some time after it was made.
    """

    def __init__(self) -> None:
        self.made = 0

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.made += 1


class _Engine:
    """The engine of one LM object. It knows the rollout id, which DSPy leaves out of requests."""

    def __init__(self, lm: ScriptedLM) -> None:
        self.lm = lm

    def complete(self, request: Request) -> Response:
        ask = self.ask(request)
        seconds = self.seconds(ask)
        if seconds:  # Even a sleep of 0 s takes a tenth of a millisecond.
            time.sleep(seconds)
        return self.answer(ask)

    def ask(self, request: Request) -> Ask:
        return Ask(
            system=_text(request.system),
            messages=tuple((message.role, message.text or "") for message in request.messages),
            temperature=request.config.temperature,
            rollout_id=self.lm.kwargs.get("rollout_id"),
            max_tokens=request.config.max_tokens,
        )

    def seconds(self, ask: Ask) -> float:
        latency = self.lm.latency
        return latency(ask) if callable(latency) else latency

    def answer(self, ask: Ask) -> Response:
        self.lm.asks.append(ask)
        reply = self.lm.script(ask)
        text = reply_text(ask, reply)
        words = len(ask.prompt.split()), len(text.split())
        usage = Usage(input_tokens=words[0], output_tokens=words[1], total_tokens=sum(words))
        message = Message.assistant([TextPart(text)])
        return Response(
            id=None,
            model="scripted",
            message=message,
            finish_reason="length" if isinstance(reply, CutOff) else "stop",
            usage=usage,
        )


class _AsyncEngine:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        ask = self.engine.ask(request)
        await asyncio.sleep(self.engine.seconds(ask))
        return self.engine.answer(ask)


def _text(system: Any) -> str:
    if system is None:
        return ""
    return system if isinstance(system, str) else "".join(part.text for part in system)


def reply_text(ask: Ask, reply: dict[str, Any] | str) -> str:
    """Return the text of a reply: as it is, or its fields in the format that was asked for."""
    return reply if isinstance(reply, str) else _formatted(ask, reply)


def _formatted(ask: Ask, values: dict[str, Any]) -> str:
    if ask.json:
        return json.dumps(values)
    rendered = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in rendered.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])
