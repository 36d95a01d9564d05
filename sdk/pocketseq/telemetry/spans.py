"""The spans of a suggestion, made when it has been answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pocketseq.suggestion import Attempt, Suggestion
from pocketseq.telemetry.instruments import Instruments
from pocketseq.telemetry.names import (
    ERROR_TYPE,
    INPUT_TOKENS,
    OPERATION,
    OUTPUT_TOKENS,
    PROVIDER,
    REQUEST_MODEL,
    RESPONSE_MODEL,
    ROUTE,
    SCOPE,
    STATUS,
    Attributes,
    cloud_attributes,
    route_attributes,
)


@dataclass(frozen=True, slots=True)
class Spans:
    """The spans of one suggestion."""

    instruments: Instruments
    start_ns: int
    """Time of the call, since the epoch."""
    end_ns: int
    """Time of the answer."""

    def write(self, suggestion: Suggestion, *, model: str, cloud_model: str | None, text: Attributes) -> None:
        """Write them; ``text`` goes on the outermost."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        root = self.instruments.tracer.start_span(f"suggest {model}", kind=SpanKind.INTERNAL, start_time=self.start_ns)
        if root.is_recording():
            route = route_attributes(suggestion)
            root.set_attributes({OPERATION: "suggest", PROVIDER: SCOPE, REQUEST_MODEL: model, **route, **text})
            inside = set_span_in_context(root)
            decided_ns = self._local_phases(suggestion, inside)
            self._child("route", inside, decided_ns, decided_ns, route)
            for attempt in suggestion.receipt.attempts:
                self._attempt(attempt, suggestion, cloud_model, inside)
        root.end(end_time=self.end_ns)

    def _local_phases(self, suggestion: Suggestion, inside: Any) -> int:
        """Spans of the local model; gives the time at which its answer was there."""
        if suggestion.local is None or suggestion.source == "cache":
            return self.start_ns
        timing, at = suggestion.local.timing, self.start_ns
        for name, duration_ms in (("tokenize", timing.tokenize_ms), ("encode", timing.encode_ms), ("decode", timing.decode_ms)):
            at = self._child(name, inside, at, at + int(duration_ms * 1e6), {})
        return at

    def _attempt(self, attempt: Attempt, suggestion: Suggestion, cloud_model: str | None, inside: Any) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        receipt = suggestion.receipt
        attributes = {**cloud_attributes(receipt.endpoint, cloud_model), f"{ROUTE}.bytes_sent": attempt.bytes_sent}
        if attempt.status is not None:
            attributes[STATUS] = attempt.status
        if attempt.error is not None:
            attributes[ERROR_TYPE] = attempt.error
        elif receipt.prompt_tokens is not None and receipt.completion_tokens is not None:
            attributes |= {INPUT_TOKENS: receipt.prompt_tokens, OUTPUT_TOKENS: receipt.completion_tokens}
        if attempt.error is None and receipt.model is not None:
            attributes[RESPONSE_MODEL] = receipt.model
        begin = self.start_ns + int(attempt.started_ms * 1e6)
        end = begin + int(attempt.latency_ms * 1e6)
        span = self.instruments.tracer.start_span(
            f"chat {cloud_model}" if cloud_model else "chat", context=inside, kind=SpanKind.CLIENT, start_time=begin,
            attributes=attributes,
        )  # fmt: skip
        if attempt.error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_time=end)

    def _child(self, name: str, inside: Any, begin: int, end: int, attributes: Attributes) -> int:
        self.instruments.tracer.start_span(name, context=inside, start_time=begin, attributes=attributes).end(end_time=end)
        return end
