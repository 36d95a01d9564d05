"""A hybrid over a real connection: what a bad server costs, and that receipt and wire agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from pocketseq.cloud import CloudEndpoint
from pocketseq.hybrid import Hybrid
from pocketseq.policy import Policy
from pocketseq.testing import FakeModel

UNSURE = {"confidence": 0.3, "threshold": 0.8}


@pytest.mark.parametrize("behaviour", ["hang", "drip", "break_off"])
def test_over_a_real_connection_the_local_answer_stands(server: Any, behaviour: str) -> None:
    """A server that hangs, drips or breaks off costs its deadline and no answer."""
    getattr(server, behaviour)()
    with CloudEndpoint(server.url, model="m") as cloud:
        suggestion = Hybrid(FakeModel("local", **UNSURE), cloud, Policy(deadline_ms=1000)).suggest("text")
    assert suggestion.text == "local"
    assert suggestion.receipt.error in {"EndpointTimeoutError", "EndpointUnavailableError"}
    assert suggestion.receipt.bytes_sent >= len("text")  # all of the body, where the endpoint could tell before the deadline


def test_over_a_real_connection_the_receipt_adds_up(server: Any, chat_answer: Callable[..., Any]) -> None:
    """Receipt and wire agree on what left and what came."""
    server.answer(chat_answer("from the cloud"))
    with CloudEndpoint(server.url, model="m") as cloud:
        suggestion = Hybrid(FakeModel("local", **UNSURE), cloud, Policy(deadline_ms=None)).suggest("text")
    receipt = suggestion.receipt
    assert (suggestion.text, suggestion.source) == ("from the cloud", "cloud")
    assert (receipt.endpoint, receipt.bytes_sent) == (server.url, len(server.seen[0].body))
    assert (receipt.prompt_tokens, receipt.completion_tokens, receipt.model) == (7, 3, "m")
    assert math.isfinite(receipt.latency_ms)
