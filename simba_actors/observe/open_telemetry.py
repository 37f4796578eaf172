"""Telemetry through opentelemetry-api: spans for run, step, rollout, strategy and LM call, and metrics.

A rollout's span is a child of its step's, and an LM call's a child of the rollout's or strategy's. A strategy's span
links to the rollouts that it learned from. The rollouts that evaluate a program link to the strategy that made it.
"""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import dspy
from dspy.utils.callback import BaseCallback
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer

from simba_actors.events import ActorCrashed, ActorRestarted, Event, StepClosed, StepOpened
from simba_actors.lm.endpoint import Endpoint
from simba_actors.lm.governor import Governor
from simba_actors.lm.usage import tokens
from simba_actors.observe.telemetry import ReportResult, Telemetry
from simba_actors.search.buckets import Bucket
from simba_actors.search.rollout import Rollout, RolloutKey, Trajectory
from simba_actors.store.records import ActorGauge

SCOPE = "simba_actors"
"""The name of the instrumentation scope."""


def is_set_up() -> bool:
    """Return whether the application has set a tracer provider or a meter provider."""
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

    def on_events(self, events: Sequence[Event]) -> None:
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
    def rollout(self, rollout: Rollout) -> Generator[ReportResult]:
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
        attributes = {
            "simba_actors.outcome": trajectory.outcome.value,
            "simba_actors.score": float(trajectory.score),
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
        }
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})
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
        """Start a current span like the tracer's own method, but hide secrets in errors."""
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
        attributes = {"exception.message": self._secrets.hide(str(error)), "exception.stacktrace": stacktrace}
        span.record_exception(error, attributes)
        span.set_status(StatusCode.ERROR, self._secrets.describe(error))

    def _step(self, step: int) -> Span:
        """Return the span of an open step. A step that an earlier process opened gets a new one."""
        if step not in self._steps:
            parent = trace.set_span_in_context(self._run)
            self._steps[step] = self._tracer.start_span("step", parent, attributes={"simba_actors.step": step})
        return self._steps[step]

    def _close_step(self, closed: StepClosed) -> None:
        span = self._step(closed.step)
        if closed.sampled_mean is not None:
            span.set_attribute("simba_actors.sampled_mean", closed.sampled_mean)
        if closed.score is not None:
            span.set_attribute("simba_actors.score", closed.score)
        span.end()
        del self._steps[closed.step]
        self._sampled = {key: span for key, span in self._sampled.items() if key.step != closed.step}

    def _parent(self, rollout: Rollout) -> Context:
        """Return the span of the rollout's step, or of the run if it belongs to no step."""
        in_step = rollout.key.phase != "final"
        return trace.set_span_in_context(self._step(rollout.key.step) if in_step else self._run)


_current_call: ContextVar[str] = ContextVar("simba_actors_lm_call", default="")
"""DSPy's id of the LM call that is being made in this context."""


class LMCallSpans(BaseCallback):
    """A span for each LM call that is sent, as a child of the current span.

    Names and attributes follow https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[str, Span] = {}

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        model = str(instance.model)
        settings: dict[str, Any] = {**instance.kwargs, **inputs.get("kwargs", {})}
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": model.partition("/")[0],
            "gen_ai.request.model": model,
            "gen_ai.request.temperature": settings.get("temperature"),
            "gen_ai.request.max_tokens": settings.get("max_tokens"),
        }
        known: dict[str, Any] = {name: value for name, value in attributes.items() if value is not None}
        # DSPy calls this in the context of the call itself.
        _current_call.set(call_id)
        self._open[call_id] = self._tracer.start_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=known)

    def answered(self, entry: Mapping[str, Any]) -> None:
        """Add the usage of the call that ends now, from the LM's history, since DSPy's callbacks do not get it."""
        span = self._open.get(_current_call.get())
        if span is None:
            return
        prompt, completion = tokens(entry)
        attributes = {
            "gen_ai.response.model": entry.get("response_model"),
            "gen_ai.usage.input_tokens": prompt,
            "gen_ai.usage.output_tokens": completion,
            "simba_actors.cost": entry.get("cost"),
        }
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def on_lm_end(self, call_id: str, outputs: dict[str, Any] | None, exception: BaseException | None = None) -> None:
        span = self._open.pop(call_id)
        if exception is not None:
            span.set_attribute("error.type", type(exception).__name__)
            span.set_status(StatusCode.ERROR)
        span.end()


class Instruments:
    """The metrics that a run records itself."""

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


_governors: WeakKeyDictionary[MeterProvider, WeakSet[Governor]] = WeakKeyDictionary()
_governors_lock = threading.Lock()
"""Exporters collect metrics in threads of their own."""


def observe_endpoints(provider: MeterProvider, governor: Governor) -> None:
    """Report how many LM calls each endpoint of `governor` accepts, is serving and keeps waiting.

    Runs share governors, and governors of different event loops call the same endpoints. So the gauges belong to the
    process: each shows the sum over all governors that are alive.
    """
    with _governors_lock:
        known = _governors.get(provider)
        governors = _governors.setdefault(provider, WeakSet[Governor]())
        governors.add(governor)
    if known is not None:
        return
    meter = provider.get_meter(SCOPE)

    def gauge(name: str, value: Callable[[Endpoint], int], description: str) -> None:
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            return _sums(governors, value)

        meter.create_observable_gauge(f"simba_actors.endpoint.{name}", [observe], "{call}", description)

    gauge("in_flight", lambda endpoint: endpoint.in_flight, "LM calls that an endpoint is serving")
    gauge("waiting", lambda endpoint: endpoint.waiting, "LM calls waiting for a slot at an endpoint")
    gauge("limit", lambda endpoint: endpoint.window.limit, "Concurrent LM calls that an endpoint accepts, as measured")


def _sums(governors: WeakSet[Governor], value: Callable[[Endpoint], int]) -> Iterable[Observation]:
    with _governors_lock:
        alive = list(governors)
    sums = Counter[str]()
    for governor in alive:
        for endpoint in governor.endpoints():
            sums[endpoint.name] += value(endpoint)
    return [Observation(total, {"endpoint": name}) for name, total in sums.items()]
