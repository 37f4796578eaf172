"""What becomes of a live program's calls: online scores, for its canary, and online examples, for future training."""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import dspy

from simba_actors.dspy_compat.predictor_names import PredictorNames
from simba_actors.errors import ConfigError
from simba_actors.evaluation.scoring import LARGEST_SCORE, is_score, verdict
from simba_actors.live.calls import CallId
from simba_actors.live.recorder import Recorder, Reported
from simba_actors.live.routing_table import BoundVersion
from simba_actors.programs.values import json_fields
from simba_actors.publishing.online_examples import OnlineExample
from simba_actors.search.trajectory import JSON

CALLS_REMEMBERED = 1_000
"""Calls whose score may still come, newest first, if examples are kept."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Asked of a live program: what it is to note of its calls.

    `metric(example, prediction)` scores each call, in a thread; `example` has the call's inputs, and no labels.
    `keep_examples` is how many scored calls the store keeps as examples; 0 keeps none.
    """

    metric: Callable[..., Any] | None = None
    keep_examples: int = 0

    def __post_init__(self) -> None:
        keep = cast("Any", self.keep_examples)
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
            raise ConfigError(f"keep_examples={keep!r}: must be a whole number of at least 0")
        if self.metric is not None and (not callable(self.metric) or inspect.iscoroutinefunction(self.metric)):
            raise ConfigError("metric must be a plain function metric(example, prediction): it runs in a thread")


@dataclass(slots=True)
class LiveRun:
    """One run as it was, and whether it has a score."""

    call: CallId
    chosen: BoundVersion
    inputs: dict[str, Any]
    prediction: Any
    trace: list[Any]
    scored: bool = False


class Observer:
    """Takes calls and their scores, and leaves them to a Recorder."""

    def __init__(self, store: Path, channel: str, wanted: Observation, clock: Callable[[], float]) -> None:
        self._wanted = wanted
        self._clock = clock
        self._recorder = Recorder(store, channel, wanted.keep_examples)
        self._recent: OrderedDict[str, LiveRun] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def wants_runs(self) -> bool:
        """Whether `ran` is to be called."""
        return self._wanted.metric is not None or self._wanted.keep_examples > 0

    def ran(self, run: LiveRun) -> None:
        """A run has ended well."""
        if self._wanted.keep_examples:
            with self._lock:
                self._recent[str(run.call)] = run
                if len(self._recent) > CALLS_REMEMBERED:
                    self._recent.popitem(last=False)
        if self._wanted.metric is not None:
            context = copy_context()
            self._recorder.put(lambda: context.run(self._scored, run))

    def report(self, score: Any, call_id: str) -> None:
        """A call's score came in."""
        call = CallId.parse(call_id)
        if not is_score(score):
            raise ConfigError(
                f"score={score!r:.80}: a score is a number between -{LARGEST_SCORE:g} and {LARGEST_SCORE:g}, better "
                "the higher it is"
            )
        with self._lock:
            run = self._recent.get(call_id)
        self._recorder.put(lambda: self._entries(call, float(score), run))

    def close(self) -> None:
        self._recorder.close()

    def _scored(self, run: LiveRun) -> Sequence[Reported | OnlineExample]:
        if self._wanted.metric is None:
            return ()
        example = dspy.Example(**run.inputs).with_inputs(*run.inputs)
        score = verdict(f"call {run.call}", self._wanted.metric(example, run.prediction)).score
        return self._entries(run.call, float(score), run)

    def _entries(self, call: CallId, score: float, run: LiveRun | None) -> Sequence[Reported | OnlineExample]:
        entries: list[Reported | OnlineExample] = [Reported(call, score)]
        if run is not None and self._wanted.keep_examples and not run.scored:
            run.scored = True
            entries.append(_example(run, score, self._clock()))
        return entries


def _example(run: LiveRun, score: float, now: float) -> OnlineExample:
    names = PredictorNames(run.chosen.program)
    called = [(names.of(predictor), inputs, outputs) for predictor, inputs, outputs in run.trace]
    trace: list[JSON] = [
        [name, json_fields(inputs), json_fields(outputs)] for name, inputs, outputs in called if name is not None
    ]
    return OnlineExample(json_fields(run.inputs), json_fields(run.prediction), trace, run.call.version, score, now)
