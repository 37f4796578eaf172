"""Telemetry through opentelemetry-api: spans for run, step, rollout, strategy and LM call, and metrics.

A rollout's span is a child of its step's, an LM call's a child of the rollout's or strategy's. A strategy's span has
links to the rollouts that it learned from, and the rollouts that evaluate a program one to the strategy that made it.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import dspy
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, StatusCode

from simba_actors.events import ActorCrashed, ActorRestarted, Event, StepClosed, StepOpened
from simba_actors.lm.governor import Governor
from simba_actors.observe.instruments import SCOPE, Instruments, observe_endpoints
from simba_actors.observe.lm_call_spans import LMCallSpans
from simba_actors.observe.telemetry import Ended, Telemetry
from simba_actors.search.buckets import Bucket
from simba_actors.search.plan import Rollout, RolloutKey
from simba_actors.search.trajectory import Trajectory
from simba_actors.store.records import ActorGauge


def is_set_up() -> bool:
    """Whether the application has set a tracer provider or a meter provider."""
    unset = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    if not isinstance(trace.get_tracer_provider(), unset):
        return True
    provider: Any = metrics.get_meter_provider()
    return type(provider).__module__.partition(".")[2] != "metrics._internal"


class OpenTelemetry(Telemetry):
    """Spans and metrics of one run in one process."""

    def __init__(self, run_id: str, governor: Governor) -> None:
        self._tracer = trace.get_tracer(SCOPE)
        self._secrets = governor.secrets
        self._instruments = Instruments({"simba_actors.run_id": run_id})
        observe_endpoints(metrics.get_meter_provider(), governor)
        self._calls = LMCallSpans(self._tracer)
        self._run = self._tracer.start_span("run", attributes={"simba_actors.run_id": run_id})
        self._steps: dict[int, Span] = {}
        self._sampled: dict[RolloutKey, SpanContext] = {}
        self._made_by: dict[int, SpanContext] = {}

    def heard(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case StepOpened(step=step):
                    self._step(step)
                case StepClosed(step=step):
                    self._close_step(event)
                case ActorCrashed(actor=actor, reason=reason):
                    self._run.add_event("actor crashed", {"actor": actor, "reason": reason})
                case ActorRestarted(actor=actor):
                    self._instruments.restarted(actor)
                case _:
                    pass

    @contextmanager
    def rollout(self, rollout: Rollout) -> Generator[Ended]:
        attributes = {
            "simba_actors.step": rollout.key.step,
            "simba_actors.phase": rollout.key.phase,
            "simba_actors.program": rollout.program,
            "simba_actors.example": rollout.example,
        }
        maker = self._made_by.get(rollout.program)
        links = [] if maker is None else [Link(maker)]
        parent = self._parent(rollout)
        with self._current_span("rollout", parent, attributes, links) as span:
            if rollout.key.phase == "sample":
                self._sampled[rollout.key] = span.get_span_context()
            self._instruments.in_flight(1)
            try:
                yield lambda trajectory: self._rollout_ended(span, rollout, trajectory)
            finally:
                self._instruments.in_flight(-1)

    def _rollout_ended(self, span: Span, rollout: Rollout, trajectory: Trajectory) -> None:
        usage = trajectory.usage
        told = {
            "simba_actors.outcome": trajectory.outcome.value,
            "simba_actors.score": float(trajectory.score),
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
        }
        span.set_attributes({name: value for name, value in told.items() if value is not None})
        self._instruments.rollout_ended(rollout.key.phase, trajectory)

    @contextmanager
    def strategy(self, name: str, step: int, program: int, buckets: Iterable[Bucket]) -> Generator[None]:
        keys = (sample.rollout.key for bucket in buckets for sample in (bucket.best, bucket.worst))
        links = [Link(self._sampled[key]) for key in dict.fromkeys(keys) if key in self._sampled]
        attributes = {"simba_actors.step": step, "simba_actors.program": program, "simba_actors.strategy": name}
        parent = trace.set_span_in_context(self._step(step))
        with self._current_span("strategy", parent, attributes, links) as span:
            self._made_by[program] = span.get_span_context()
            yield

    def lm_calls(self) -> AbstractContextManager[None]:
        settings: Any = dspy.settings
        return dspy.context(callbacks=[*(settings.callbacks or []), self._calls])

    def lm_answered(self, entry: Mapping[str, Any]) -> None:
        self._calls.answered(entry)

    def gauges(self, gauges: Iterable[ActorGauge]) -> None:
        for gauge in gauges:
            self._instruments.mailbox(gauge)

    def end(self, error: BaseException | None) -> None:
        for span in self._steps.values():
            span.end()
        self._steps.clear()
        if error is not None:
            self._failed(self._run, error)
        self._run.end()

    @contextmanager
    def _current_span(
        self, name: str, parent: Context, attributes: Mapping[str, Any], links: Sequence[Link]
    ) -> Generator[Span]:
        """As the tracer's own, which would tell all that an error says."""
        with self._tracer.start_as_current_span(
            name, parent, attributes=attributes, links=links, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                self._failed(span, error)
                raise

    def _failed(self, span: Span, error: BaseException) -> None:
        stacktrace = self._secrets.hide("".join(traceback.format_exception(error)))
        told = {"exception.message": self._secrets.hide(str(error)), "exception.stacktrace": stacktrace}
        span.record_exception(error, told)
        span.set_status(StatusCode.ERROR, self._secrets.describe(error))

    def _step(self, step: int) -> Span:
        """The open step's span; a step that an earlier process opened gets one of this process."""
        if step not in self._steps:
            parent = trace.set_span_in_context(self._run)
            self._steps[step] = self._tracer.start_span("step", parent, attributes={"simba_actors.step": step})
        return self._steps[step]

    def _close_step(self, closed: StepClosed) -> None:
        span = self._step(closed.step)
        span.set_attribute("simba_actors.baseline_score", closed.baseline_score)
        if closed.score is not None:
            span.set_attribute("simba_actors.score", closed.score)
        span.end()
        del self._steps[closed.step]
        self._sampled.clear()

    def _parent(self, rollout: Rollout) -> Context:
        """Its step, or the run where it belongs to no step."""
        in_step = rollout.key.phase != "final"
        return trace.set_span_in_context(self._step(rollout.key.step) if in_step else self._run)
