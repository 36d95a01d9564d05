"""All names that OpenTelemetry hears: the GenAI conventions' where they have one, and what is said by them of a suggestion."""

from __future__ import annotations

from typing import Final, TypeAlias
from urllib.parse import urlsplit

from pocketseq.suggestion import Suggestion

SCOPE: Final = "pocketseq"
"""Name of the instrumentation."""
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
INPUT_TEXT: Final = "pocketseq.input.text"
OUTPUT_TEXT: Final = "pocketseq.output.text"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a name, not a password
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
STATUS: Final = "http.response.status_code"
ROUTE: Final = "pocketseq.route"
"""Prefix of what has no convention: how a question was routed."""

DURATION: Final = "gen_ai.client.operation.duration"
TOKENS: Final = "gen_ai.client.token.usage"
DURATION_BUCKETS_S: Final = (
    *(0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0),
)
"""Fine enough to tell 1 ms from 2: the convention's own first bucket ends at 10 ms."""
TOKEN_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)

Attributes: TypeAlias = dict[str, str | int | float | bool]
"""Of a span or a point of a metric."""


def route_attributes(suggestion: Suggestion) -> Attributes:
    """What is said of the decision."""
    receipt = suggestion.receipt
    known = {
        "source": suggestion.source,
        "decision": receipt.decision,
        "confidence": suggestion.confidence,
        "threshold": receipt.threshold,
        "gate": receipt.gate,
        "calibration": receipt.calibration,
        "redacted": sum(item.count for item in receipt.redacted),
        "cost": receipt.cost,
    }
    attributes: Attributes = {f"{ROUTE}.{name}": value for name, value in known.items() if value is not None}
    if receipt.error is not None:
        attributes[ERROR_TYPE] = receipt.error
    return attributes


def cloud_attributes(url: str | None, model: str | None) -> Attributes:
    """What is said of the cloud in every span and metric."""
    parts = urlsplit(url or "")
    host = parts.hostname or "unknown"
    attributes: Attributes = {
        OPERATION: "chat",
        PROVIDER: "openai" if host == "api.openai.com" else "openai_compatible",
        SERVER_ADDRESS: host,
    }
    if model is not None:
        attributes[REQUEST_MODEL] = model
    if parts.port is not None:
        attributes[SERVER_PORT] = parts.port
    return attributes
