"""Telemetry: spans and metrics of real suggestions, read by OpenTelemetry's own SDK in memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from pocketseq.budget import Budget, Price
from pocketseq.endpoint import Completion
from pocketseq.errors import EndpointServerError, PolicyError
from pocketseq.hybrid import Hybrid
from pocketseq.policy import Policy
from pocketseq.privacy import BUILT_IN, Finding
from pocketseq.telemetry import DURATION_BUCKETS_S, SCOPE, Telemetry, TextRecording
from pocketseq.testing import FakeEndpoint, FakeModel, scripted_model

UNSURE = {"confidence": 0.3, "threshold": 0.8}


class Heard:
    """An SDK that keeps what it is told."""

    def __init__(self) -> None:
        self.spans_out = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans_out))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    def telemetry(self, **more: Any) -> Telemetry:
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **more)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.spans_out.get_finished_spans()}

    @property
    def metrics(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    yield heard
    heard.tracers.shutdown()
    heard.meters.shutdown()


def test_the_spans_of_a_suggestion(heard: Heard) -> None:
    """One span of the suggestion with the phases of the local answer, the decision and each request as its children."""
    model = scripted_model({"rnage": "range"}, confidence=0.4)
    cloud = FakeEndpoint(EndpointServerError("busy", status=503, request_bytes=9), "range()")
    hybrid = Hybrid(model, cloud, Policy(threshold=0.8, deadline_ms=None), telemetry=heard.telemetry())
    hybrid.suggest("rnage")
    spans = heard.spans_out.get_finished_spans()
    name = model.manifest.name
    assert [span.name for span in spans] == [
        "tokenize",
        "encode",
        "decode",
        "route",
        "chat",
        "chat",
        f"suggest {name}",
    ]
    root = spans[-1]
    assert root.parent is None
    assert root.kind is SpanKind.INTERNAL
    assert {span.parent.span_id for span in spans[:-1] if span.parent is not None} == {root.context.span_id}
    for span in spans:
        assert root.start_time <= span.start_time <= span.end_time <= root.end_time  # type: ignore[operator]
    assert dict(root.attributes or {}) == {
        "gen_ai.operation.name": "suggest",
        "gen_ai.provider.name": "pocketseq",
        "gen_ai.request.model": name,
        "pocketseq.route.source": "cloud",
        "pocketseq.route.decision": "ask",
        "pocketseq.route.confidence": pytest.approx(0.4),
        "pocketseq.route.threshold": 0.8,
        "pocketseq.route.redacted": 0,
    }
    failed, answered = spans[4:6]
    assert failed.kind is SpanKind.CLIENT
    assert dict(failed.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai_compatible",
        "server.address": "fake.invalid",
        "pocketseq.route.bytes_sent": 9,
        "http.response.status_code": 503,
        "error.type": "EndpointServerError",
    }
    assert not failed.status.is_ok
    assert answered.attributes is not None
    assert (answered.attributes["gen_ai.usage.input_tokens"], answered.attributes["gen_ai.usage.output_tokens"]) == (1, 1)


def test_the_model_that_answered_is_told(heard: Heard) -> None:
    """The name that was asked for, and the one that the endpoint gives."""

    class Named(FakeEndpoint):
        model = "alias"

        def complete(self, prompt: str, **options: Any) -> Completion:
            return replace(super().complete(prompt, **options), model="model-2026-01")

    Hybrid(FakeModel("local", **UNSURE), Named("cloud"), telemetry=heard.telemetry()).suggest("text")
    attributes = heard.spans["chat alias"].attributes or {}
    assert (attributes["gen_ai.request.model"], attributes["gen_ai.response.model"]) == ("alias", "model-2026-01")


def test_a_suggestion_belongs_to_the_span_around_it(heard: Heard) -> None:
    """An application's own span is the parent."""
    hybrid = Hybrid(FakeModel("local"), telemetry=heard.telemetry())
    with heard.tracers.get_tracer("app").start_as_current_span("keystroke") as outer:
        hybrid.suggest("text")
    parent = heard.spans["suggest FakeModel"].parent
    assert parent is not None
    assert parent.span_id == outer.get_span_context().span_id


def test_metrics(heard: Heard) -> None:
    """Durations with the convention's name and buckets fine enough for milliseconds; suggestions, bytes, tokens and money."""
    policy = Policy(price=Price(1.0, 1.0), cache_size=0)
    hybrid = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint("cloud"), policy, telemetry=heard.telemetry())
    hybrid.accepted(hybrid.suggest("text"))
    hybrid.suggest("text", mode="only_local")
    metrics = heard.metrics
    durations = {point.attributes["gen_ai.operation.name"]: point for point in metrics["gen_ai.client.operation.duration"]}
    assert set(durations) == {"suggest", "chat"}
    assert tuple(durations["chat"].explicit_bounds) == DURATION_BUCKETS_S
    assert sum(bound < 0.01 for bound in DURATION_BUCKETS_S) >= 9
    assert {point.attributes["gen_ai.token.type"] for point in metrics["gen_ai.client.token.usage"]} == {"input", "output"}
    assert sum(point.value for point in metrics["pocketseq.suggestions"]) == 2
    assert [point.value for point in metrics["pocketseq.sent"]] == [4]
    assert metrics["pocketseq.cost"][0].value > 0
    (feedback,) = metrics["pocketseq.feedback"]
    assert dict(feedback.attributes) == {"pocketseq.route.source": "cloud", "pocketseq.feedback": "accepted"}


@pytest.mark.parametrize("kept_by", ["a detector that fails", "a detector that is late", "the budget"])
def test_an_audit_that_was_not_sent_is_no_failed_one(heard: Heard, kept_by: str) -> None:
    """Nothing was asked that could fail: it is not counted at all."""
    over = threading.Event()

    def detector(text: str) -> tuple[Finding, ...]:
        if kept_by == "a detector that fails":
            raise ValueError(text)
        if kept_by == "a detector that is late":
            assert over.wait(30)
        return ()

    policy = Policy(audit=1.0, deadline_ms=100, budget=Budget(requests_per_day=0) if kept_by == "the budget" else None)
    model, cloud = FakeModel("local", confidence=0.9, threshold=0.8), FakeEndpoint("local")
    Hybrid(model, cloud, policy, detectors=[detector], telemetry=heard.telemetry()).suggest("text")
    over.set()
    for thread in threading.enumerate():
        if thread.name == "pocketseq-ask":
            thread.join(30)
    assert cloud.calls == []
    assert "pocketseq.audits" not in heard.metrics


def test_errors_and_audits_are_counted(heard: Heard) -> None:
    """A call that raises counts with its error's type; an audit with how it ended."""
    policy = Policy(audit=1.0)
    hybrid = Hybrid(FakeModel("local", confidence=0.9, threshold=0.8), FakeEndpoint("local"), policy, telemetry=heard.telemetry())
    hybrid.suggest("text")
    failing = Hybrid(FakeModel("local"), policy=Policy(mode="only_cloud"), telemetry=heard.telemetry())
    with pytest.raises(Exception, match="found none configured"):
        failing.suggest("text")
    while not hybrid.drift.audits:
        pass
    while "pocketseq.audits" not in (metrics := heard.metrics):
        pass
    assert dict(metrics["pocketseq.audits"][0].attributes) == {"pocketseq.audit": "agrees", "pocketseq.audit.alarmed": False}
    assert [point.value for point in metrics["pocketseq.sent"]] == [4]
    errors = [point.attributes.get("error.type") for point in metrics["pocketseq.suggestions"]]
    assert "EndpointUnavailableError" in errors


def everything(heard: Heard) -> str:
    """All that was told, as text."""
    return "".join(span.to_json() for span in heard.spans_out.get_finished_spans()) + repr(heard.metrics)


def test_text_is_not_recorded(heard: Heard) -> None:
    """Neither what was asked nor what was answered, unless it is switched on."""
    hybrid = Hybrid(FakeModel("the answer", **UNSURE), FakeEndpoint("cloud answer"), telemetry=heard.telemetry())
    hybrid.suggest("the question")
    hybrid.suggest("another question", mode="only_local")
    assert "question" not in everything(heard)
    assert "answer" not in everything(heard)


def test_recorded_text_is_sampled_and_redacted(heard: Heard) -> None:
    """Where it is switched on, a share of the suggestions carries text, and no secret."""
    text = TextRecording(share=0.2)
    hybrid = Hybrid(FakeModel("to x@example.org"), telemetry=heard.telemetry(text=text, random=Random(0)))
    for number in range(200):
        hybrid.suggest(f"x@example.org {number}")
    recorded = [span for span in heard.spans_out.get_finished_spans() if "pocketseq.output.text" in (span.attributes or {})]
    assert 20 <= len(recorded) <= 65
    assert {(span.attributes or {})["pocketseq.output.text"] for span in recorded} == {"to <EMAIL_1>"}
    assert "x@example.org" not in everything(heard)
    with pytest.raises(PolicyError, match="share: expected"):
        TextRecording(share=2)


def test_detectors_of_any_kind_look_at_every_text(heard: Heard) -> None:
    """Also those that came as an iterator, which gives them once."""
    hybrid = Hybrid(
        FakeModel("to x@example.org"), telemetry=heard.telemetry(text=TextRecording(share=1.0, detectors=iter(BUILT_IN)))
    )
    for number in range(3):
        hybrid.suggest(f"x@example.org {number}")
    assert "x@example.org" not in everything(heard)


def test_what_is_secret_in_the_input_is_secret_in_the_answer(heard: Heard) -> None:
    """The answer repeats a password without the URL that gave it away; the user sees it, the span does not."""
    cloud = FakeEndpoint('connect("<URL_CREDENTIALS_1>")')
    hybrid = Hybrid(FakeModel("local", **UNSURE), cloud, telemetry=heard.telemetry(text=TextRecording(share=1.0)))
    assert hybrid.suggest('conect("db://bob:hunter2@10.0.0.7")').text == 'connect("bob:hunter2")'
    assert (heard.spans["suggest FakeModel"].attributes or {})["pocketseq.output.text"] == 'connect("<URL_CREDENTIALS_1>")'
    assert "hunter2" not in everything(heard)


def test_a_detector_that_fails_costs_the_text_and_not_the_answer(heard: Heard) -> None:
    """Text that nobody could look through is not recorded, and the suggestion is served."""

    def broken(text: str) -> list[Any]:
        raise ValueError(text)

    text = TextRecording(share=1.0, detectors=[broken])
    assert Hybrid(FakeModel("the answer"), telemetry=heard.telemetry(text=text)).suggest("the question").text == "the answer"
    assert "ValueError" in everything(heard)
    assert "question" not in everything(heard)


def test_many_hybrids_share_what_the_api_keeps_for_ever() -> None:
    """The API never forgets an instrument: a thousand hybrids make no more of them than one."""
    Hybrid(FakeModel("local"))

    def instruments() -> int:
        gc.collect()
        return sum(str(type(thing).__module__).startswith("opentelemetry.metrics") for thing in gc.get_objects())

    before = instruments()
    for _ in range(1000):
        Hybrid(FakeModel("local"))
    assert instruments() == before


def test_an_older_api_is_served_too(heard: Heard) -> None:
    """One that knows no advice on buckets gets histograms without it."""

    class OldMeter:
        def __init__(self, meter: Any) -> None:
            self.create_counter = meter.create_counter
            self._meter = meter

        def create_histogram(self, name: str, unit: str, description: str) -> Any:
            return self._meter.create_histogram(name, unit, description)

    class OldMeters:
        def get_meter(self, *args: Any, **options: Any) -> OldMeter:
            return OldMeter(heard.meters.get_meter(SCOPE))

    Hybrid(FakeModel("local"), telemetry=Telemetry(meter_provider=OldMeters())).suggest("text")
    assert heard.metrics["gen_ai.client.operation.duration"][0].count == 1


@pytest.mark.parametrize("absent", ["opentelemetry", "opentelemetry.sdk"])
def test_without_a_listener_nothing_is_missing(absent: str) -> None:
    """Suggestions work with OpenTelemetry's API alone, and without OpenTelemetry."""
    code = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from pocketseq import Hybrid, Policy\n"
        "from pocketseq.testing import FakeEndpoint, FakeModel\n"
        "hybrid = Hybrid(FakeModel('local', confidence=0.1, threshold=0.5), FakeEndpoint('cloud'))\n"
        "suggestion = hybrid.suggest('text')\n"
        "hybrid.dismissed(suggestion)\n"
        "print(suggestion.text)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "cloud"
