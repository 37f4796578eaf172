"""Streams of live calls: `dspy.streamify` listens to the student's predictors, but copies of them run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy


def is_streamed() -> bool:
    """Return whether a stream of `dspy.streamify` is listening in this context."""
    settings: Any = dspy.settings
    return settings.send_stream is not None


def streamed_as(student: dspy.Module, program: dspy.Module, now: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under which `program`, a copy of `student`, sends as if the student's predictors did.

    `now` are DSPy's settings. The result is empty if no stream is listening.
    """
    if program is student or now["send_stream"] is None:
        return {}
    copies = _predictors(program)
    pairs = [(own, copies[name]) for name, own in _predictors(student).items()]
    copy_of = {id(own): copy for own, copy in pairs}
    listeners = [_Listener(copy_of.get(id(listener.predict), listener.predict)) for listener in now["stream_listeners"]]
    stream = _Stream(now["send_stream"], {id(copy): id(own) for own, copy in pairs})
    return {"send_stream": stream, "stream_listeners": listeners}


def _predictors(program: Any) -> dict[str, Any]:
    return dict(program.named_predictors())


@dataclass(frozen=True, slots=True)
class _Listener:
    """A listener to a copied predictor. Predictors only check whether a listener is their own."""

    predict: Any


@dataclass(frozen=True, slots=True)
class _Stream:
    """Sends to `stream`. Chunks find their listeners by the ids of predictors, so copies' ids are replaced."""

    stream: Any
    own_ids: dict[int, int]

    async def send(self, item: Any) -> None:
        predictor = getattr(item, "predict_id", None)
        if predictor in self.own_ids:
            item.predict_id = self.own_ids[predictor]
        await self.stream.send(item)
