"""Spans and metrics of a run, as OpenTelemetry's SDK gets them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from simba_actors import Governor, Limits, Optimizer
from simba_actors.errors import MetricError
from simba_actors.observe.telemetry import Telemetry, telemetry_of
from simba_actors.store import Reader
from simba_actors.store.queries import run_queries
from simba_actors.strategies import AppendADemo
from simba_actors.team.coordinator import Coordinator
from tests.support.crashing import Injector, inject
from tests.support.openai_server import Faults, OpenAIServer
from tests.support.quiz import quiz_script
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import ScriptedLM, slow_after
from tests.support.waiting import PATIENCE, until

PRICED = "openai/gpt-4o-mini"
"""A model whose price DSPy knows."""


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


def sum_of(spans: list[ReadableSpan], name: str) -> int:
    return sum(cast("int", (span.attributes or {})[name]) for span in spans)


def parents(spans: list[ReadableSpan]) -> set[int]:
    return {span.parent.span_id for span in spans if span.parent is not None}


def ids(spans: list[ReadableSpan]) -> set[int]:
    return {span.context.span_id for span in spans if span.context is not None}


async def test_spans_nest_as_run_step_rollout_and_lm_call(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    config = small_config(tmp_path / "simba.db")
    result = await finish(config)
    spans = by_kind(exporter.get_finished_spans())
    async with await Reader.open(config.store) as store:
        summary = await store.ask(run_queries.summary, result.run_id)
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
    assert call.attributes["gen_ai.provider.name"] == "scripted"
    assert call.attributes["gen_ai.request.temperature"] == 1.0


async def test_lm_calls_tell_of_all_tokens_that_the_store_counts(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    usage = (await finish(small_config(tmp_path / "simba.db"))).usage
    calls = by_kind(exporter.get_finished_spans())["chat"]
    assert sum_of(calls, "gen_ai.usage.input_tokens") == usage.prompt_tokens
    assert sum_of(calls, "gen_ai.usage.output_tokens") == usage.completion_tokens


async def test_calls_of_a_provider_tell_which_model_answered(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    with OpenAIServer(quiz_script) as server:
        await finish(small_config(tmp_path / "simba.db", lm=server.lm(), prompt_model=server.lm()))
    calls = by_kind(exporter.get_finished_spans())["chat"]
    assert all((call.attributes or {}).get("gen_ai.response.model") == "quiz" for call in calls)


async def test_a_call_that_fails_has_its_error(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    with OpenAIServer(quiz_script, faults=Faults(server_error=0.1)) as server:
        await finish(small_config(tmp_path / "simba.db", lm=server.lm()))
        failed = server.fates["server_error"]
    calls = by_kind(exporter.get_finished_spans())["chat"]
    assert sum("error.type" in (call.attributes or {}) for call in calls) == failed > 0


async def test_spans_of_what_failed_tell_no_keys(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    def broken(example: Any, prediction: Any, trace: Any = None) -> bool:
        if prediction.answer == example.answer:
            return True
        raise RuntimeError("the judge refused sk-planted-0123456789")

    with pytest.raises(MetricError):
        await finish(small_config(tmp_path / "simba.db", metric=broken))
    failed = [span for span in exporter.get_finished_spans() if "the judge refused" in span.to_json()]
    assert {span.name for span in failed} == {"rollout", "run"}
    assert all("the judge refused [hidden]" in (span.status.description or "") for span in failed)
    assert not any("sk-planted" in span.to_json() for span in failed)


def read(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """The data points of each metric."""
    data = reader.get_metrics_data()
    resources = [] if data is None else data.resource_metrics  # Nothing has been measured yet.
    metrics: Any = [m for resource in resources for scope in resource.scope_metrics for m in scope.metrics]
    return {metric.name: list(metric.data.data_points) for metric in metrics}


def total(points: list[Any]) -> int:
    return sum(point.value for point in points)


async def test_metrics_count_what_the_store_counts(tmp_path: Path, reader: InMemoryMetricReader) -> None:
    config = small_config(tmp_path / "simba.db")
    result = await finish(config)
    async with await Reader.open(config.store) as store:
        summary = await store.ask(run_queries.summary, result.run_id)
    found = read(reader)
    assert total(found["simba_actors.rollouts"]) == summary.rollouts_done
    assert total(found["simba_actors.rollouts.in_flight"]) == 0
    assert {"simba_actors.score", "simba_actors.mailbox"} <= set(found)


async def test_metrics_count_what_rollouts_cost(tmp_path: Path, reader: InMemoryMetricReader) -> None:
    with OpenAIServer(quiz_script) as server:
        lm = server.lm(model=PRICED)
        result = await finish(small_config(tmp_path / "simba.db", lm=lm, strategies=[AppendADemo()]))
    assert result.usage.cost
    assert total(read(reader)["simba_actors.cost"]) == pytest.approx(result.usage.cost)


async def test_metrics_count_restarts_by_actor(
    tmp_path: Path, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, Coordinator, Injector(at=[4]))
    await finish(small_config(tmp_path / "simba.db"))
    [point] = read(reader)["simba_actors.restarts"]
    assert (point.attributes["actor"], point.value) == ("coordinator", 1)


async def test_metrics_tell_how_busy_an_endpoint_is(tmp_path: Path, reader: InMemoryMetricReader) -> None:
    def shown() -> dict[str, dict[str, int]]:
        found = read(reader)
        names = ("in_flight", "waiting", "limit")
        points = {name: found.get(f"simba_actors.endpoint.{name}", []) for name in names}
        return {name: {point.attributes["endpoint"]: point.value for point in points[name]} for name in names}

    lm = ScriptedLM(quiz_script, latency=slow_after(0))
    governor = Governor(limits={"scripted/lm": Limits(max_concurrency=1)})
    config = small_config(tmp_path / "simba.db", lm=lm, governor=governor, max_concurrency=4)
    busy = {"in_flight": {"scripted/lm": 1}, "waiting": {"scripted/lm": 3}, "limit": {"scripted/lm": 1}}
    async with await Optimizer.start(config):
        await until(lambda: shown() == busy)


async def test_other_callbacks_of_dspy_go_on_working(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    calls: list[str] = []

    class Listener(BaseCallback):
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            calls.append(call_id)

    with dspy.context(callbacks=[Listener()]):
        result = await finish(small_config(tmp_path / "simba.db"))
    assert len(calls) == result.usage.calls == len(by_kind(exporter.get_finished_spans())["chat"])


def test_without_a_provider_there_is_no_telemetry() -> None:
    assert type(telemetry_of("run", Governor())) is Telemetry


def test_an_application_that_has_not_imported_opentelemetry_is_spared_that() -> None:
    code = (
        "import sys; from simba_actors.observe.telemetry import telemetry_of; "
        "from simba_actors.lm.governor import Governor; "
        "telemetry_of('run', Governor()); sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE).returncode == 0
