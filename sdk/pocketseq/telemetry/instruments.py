"""Tracer and metrics, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from pocketseq.suggestion import Attempt, Suggestion
from pocketseq.telemetry.names import (
    DURATION,
    DURATION_BUCKETS_S,
    ERROR_TYPE,
    OPERATION,
    PROVIDER,
    REQUEST_MODEL,
    ROUTE,
    SCOPE,
    TOKEN_BUCKETS,
    TOKEN_TYPE,
    TOKENS,
    Attributes,
)


class Instruments:
    """Tracer and instruments, made once."""

    def __init__(self, tracer: Any, meter: Any) -> None:
        self.tracer = tracer
        self.duration = _histogram(meter, DURATION, "s", "Duration of an operation.", DURATION_BUCKETS_S)
        self.tokens = _histogram(meter, TOKENS, "{token}", "Tokens that the cloud read or wrote.", TOKEN_BUCKETS)
        self.suggestions = meter.create_counter("pocketseq.suggestions", "{suggestion}", "Suggestions, by source and decision.")
        self.sent = meter.create_counter("pocketseq.sent", "By", "Bytes of request bodies that left the device.")
        self.cost = meter.create_counter("pocketseq.cost", "{currency}", "Cost by the policy's price.")
        self.feedback = meter.create_counter("pocketseq.feedback", "{suggestion}", "What users made of suggestions.")
        self.audits = meter.create_counter("pocketseq.audits", "{audit}", "Local answers compared with the cloud's.")

    def count_suggestion(self, suggestion: Suggestion, model: str) -> None:
        """Count one suggestion, how long it took and what it cost."""
        receipt = suggestion.receipt
        route: Attributes = {f"{ROUTE}.source": suggestion.source, f"{ROUTE}.decision": receipt.decision}
        if receipt.error is not None:
            route[ERROR_TYPE] = receipt.error
        self.suggestions.add(1, {REQUEST_MODEL: model, **route})
        self.duration.record(receipt.total_ms / 1000, {OPERATION: "suggest", PROVIDER: SCOPE, REQUEST_MODEL: model, **route})
        if receipt.cost:
            self.cost.add(receipt.cost)

    def count_attempt(self, attempt: Attempt, cloud: Attributes) -> None:
        """Count one request to the cloud."""
        self.sent.add(attempt.bytes_sent, cloud)
        failure: Attributes = {} if attempt.error is None else {ERROR_TYPE: attempt.error}
        self.duration.record(attempt.latency_ms / 1000, {**cloud, **failure})

    def count_tokens(self, read: int, written: int, cloud: Attributes) -> None:
        """Count the tokens of one answer."""
        self.tokens.record(read, {**cloud, TOKEN_TYPE: "input"})
        self.tokens.record(written, {**cloud, TOKEN_TYPE: "output"})


@cache
def global_instruments() -> Instruments | None:
    """Those of the global providers, made once in a process: the API remembers each that is ever made."""
    return instruments_of(None, None)


def instruments_of(tracer_provider: Any, meter_provider: Any) -> Instruments | None:
    """Those of given providers; None without OpenTelemetry."""
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        return None
    return Instruments(
        trace.get_tracer(SCOPE, tracer_provider=tracer_provider), metrics.get_meter(SCOPE, meter_provider=meter_provider)
    )


def _histogram(meter: Any, name: str, unit: str, description: str, buckets: Sequence[float]) -> Any:
    try:
        return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)
    except TypeError:  # an API from before 2025 that the application brought along: its SDK has to be told the buckets
        return meter.create_histogram(name, unit, description)
