"""Telemetry through opentelemetry-api: spans for run, step, rollout, strategy and LM call, and metrics.

A rollout's span is a child of its step's, an LM call's a child of the rollout's or strategy's. A strategy's span has
links to the rollouts that it learned from, and the rollouts that evaluate a program one to the strategy that made it.
LM calls follow https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer

from simba_actors.algorithm.buckets import Bucket
from simba_actors.algorithm.plan import Rollout, RolloutKey
from simba_actors.algorithm.trajectory import Trajectory
from simba_actors.events import ActorCrashed, ActorRestarted, Event, StepClosed, StepOpened
from simba_actors.observe.telemetry import Ended, Telemetry
from simba_actors.store.records import ActorGauge

SCOPE = "simba_actors"


def is_set_up() -> bool:
    """Whether the application has set a tracer provider or a meter provider."""
    unset = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    if not isinstance(trace.get_tracer_provider(), unset):
        return True
    provider: Any = metrics.get_meter_provider()
    return type(provider).__module__.partition(".")[2] != "metrics._internal"


class OpenTelemetry(Telemetry):
    """Spans and metrics of one run in one process."""

    def __init__(self, run_id: str) -> None:
        self._tracer = trace.get_tracer(SCOPE)
        self._instruments = Instruments({"simba_actors.run_id": run_id})
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
        with self._tracer.start_as_current_span("rollout", parent, attributes=attributes, links=links) as span:
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
        with self._tracer.start_as_current_span("strategy", parent, attributes=attributes, links=links) as span:
            self._made_by[program] = span.get_span_context()
            yield

    def lm_calls(self) -> AbstractContextManager[None]:
        settings: Any = dspy.settings
        return dspy.context(callbacks=[*(settings.callbacks or []), LMCallSpans(self._tracer)])

    def gauges(self, gauges: Iterable[ActorGauge]) -> None:
        for gauge in gauges:
            self._instruments.mailbox(gauge)

    def end(self, error: BaseException | None) -> None:
        for span in self._steps.values():
            span.end()
        self._steps.clear()
        if error is not None:
            self._run.record_exception(error)
            self._run.set_status(StatusCode.ERROR, str(error))
        self._run.end()

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


class Instruments:
    """The metrics of a run."""

    def __init__(self, common: dict[str, str]) -> None:
        meter = metrics.get_meter(SCOPE)
        self._common = common
        self._rollouts = meter.create_counter("simba_actors.rollouts", "{rollout}", "Rollouts that ended")
        self._scores = meter.create_histogram("simba_actors.score", "1", "Scores of rollouts")
        self._cost = meter.create_counter("simba_actors.cost", "USD", "What rollouts cost, where it is known")
        self._restarts = meter.create_counter("simba_actors.restarts", "{restart}", "Restarts of actors")
        self._mailbox = meter.create_gauge("simba_actors.mailbox", "{message}", "Messages in an actor's mailbox")
        self._in_flight = meter.create_up_down_counter(
            "simba_actors.rollouts.in_flight", "{rollout}", "Rollouts under way"
        )

    def rollout_ended(self, phase: str, trajectory: Trajectory) -> None:
        attributes = {**self._common, "phase": phase, "outcome": trajectory.outcome.value}
        self._rollouts.add(1, attributes)
        self._scores.record(float(trajectory.score), attributes)
        if trajectory.usage.cost:
            self._cost.add(trajectory.usage.cost, self._common)

    def in_flight(self, change: int) -> None:
        self._in_flight.add(change, self._common)

    def restarted(self, actor: str) -> None:
        self._restarts.add(1, {**self._common, "actor": actor})

    def mailbox(self, gauge: ActorGauge) -> None:
        self._mailbox.set(gauge.mailbox, {**self._common, "actor": gauge.actor})


class LMCallSpans(BaseCallback):
    """A span for each LM call that is sent, under whatever span is current."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[str, Span] = {}

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        model = str(instance.model)
        attributes: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
        temperature = instance.kwargs.get("temperature")
        if temperature is not None:
            attributes["gen_ai.request.temperature"] = float(temperature)
        self._open[call_id] = self._tracer.start_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=attributes)

    def on_lm_end(self, call_id: str, outputs: dict[str, Any] | None, exception: BaseException | None = None) -> None:
        span = self._open.pop(call_id)
        if exception is not None:
            span.set_attribute("error.type", type(exception).__name__)
            span.set_status(StatusCode.ERROR)
        span.end()
