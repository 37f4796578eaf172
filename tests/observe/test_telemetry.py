"""Spans and metrics of a run, as OpenTelemetry's SDK gets them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from simba_actors.observe.telemetry import Telemetry, telemetry_of
from simba_actors.store.queries import Queries
from tests.support.runs import finish, small_config


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr("opentelemetry.metrics._internal._METER_PROVIDER", provider)
    yield reader
    provider.shutdown()


def by_kind(spans: Any) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in spans:
        found.setdefault(span.name.partition(" ")[0], []).append(span)
    return found


def parents(spans: list[ReadableSpan]) -> set[int]:
    return {span.parent.span_id for span in spans if span.parent is not None}


def ids(spans: list[ReadableSpan]) -> set[int]:
    return {span.context.span_id for span in spans if span.context is not None}


async def test_spans_nest_as_run_step_rollout_and_lm_call(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    config = small_config(tmp_path / "simba.db")
    result = await finish(config)
    spans = by_kind(exporter.get_finished_spans())
    async with await Queries.open(config.store) as store:
        summary = await store.summary(result.run_id)
    assert (len(spans["run"]), len(spans["step"])) == (1, 2)
    assert len(spans["rollout"]) == summary.rollouts_done
    assert len(spans["chat"]) == summary.usage.calls
    assert parents(spans["step"]) == ids(spans["run"])
    assert parents(spans["rollout"]) <= ids(spans["step"]) | ids(spans["run"])
    assert parents(spans["chat"]) <= ids(spans["rollout"]) | ids(spans["strategy"])


async def test_links_lead_from_rollouts_to_strategies_and_on(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    await finish(small_config(tmp_path / "simba.db"))
    spans = by_kind(exporter.get_finished_spans())
    learned_from = {link.context.span_id for span in spans["strategy"] for link in span.links}
    made_by = {link.context.span_id for span in spans["rollout"] for link in span.links}
    assert learned_from
    assert learned_from <= ids(spans["rollout"])
    assert made_by
    assert made_by <= ids(spans["strategy"])


async def test_lm_calls_are_named_as_the_conventions_have_it(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    await finish(small_config(tmp_path / "simba.db"))
    call = by_kind(exporter.get_finished_spans())["chat"][0]
    assert call.name == "chat scripted/lm"
    assert call.attributes is not None
    assert call.attributes["gen_ai.operation.name"] == "chat"
    assert call.attributes["gen_ai.request.model"] == "scripted/lm"


async def test_metrics_count_what_the_store_counts(tmp_path: Path, reader: InMemoryMetricReader) -> None:
    config = small_config(tmp_path / "simba.db")
    result = await finish(config)
    async with await Queries.open(config.store) as store:
        summary = await store.summary(result.run_id)
    data = reader.get_metrics_data()
    assert data is not None
    found = {m.name: m for m in data.resource_metrics[0].scope_metrics[0].metrics}

    def total(name: str) -> float:
        points: Any = found[name].data.data_points
        return sum(point.value for point in points)

    assert total("simba_actors.rollouts") == summary.rollouts_done
    assert total("simba_actors.rollouts.in_flight") == 0
    assert {"simba_actors.score", "simba_actors.mailbox"} <= set(found)


async def test_other_callbacks_of_dspy_go_on_working(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    calls: list[str] = []

    class Listener(BaseCallback):
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            calls.append(call_id)

    with dspy.context(callbacks=[Listener()]):
        result = await finish(small_config(tmp_path / "simba.db"))
    assert len(calls) == result.usage.calls == len(by_kind(exporter.get_finished_spans())["chat"])


def test_without_a_provider_there_is_no_telemetry() -> None:
    assert type(telemetry_of("run")) is Telemetry
