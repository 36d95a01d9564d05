"""Hedged starts: the cloud is asked while the local answer is still being decoded, where the gate says that it will be wrong."""

from __future__ import annotations

import pytest

from pocketseq.errors import EndpointServerError
from pocketseq.hybrid import Hybrid
from pocketseq.policy import Policy, hedges
from pocketseq.testing import FakeEndpoint, FakeModel, FakeStreamingEndpoint, Reply

SURE = {"confidence": 0.9, "threshold": 0.8}
UNSURE = {"confidence": 0.3, "threshold": 0.8}


def test_the_cloud_is_asked_before_the_local_answer_is_there() -> None:
    """Where the gate says "hard" the request starts at once, and the receipt says so."""
    model = FakeModel("local", gate=0.05, delay_s=0.1, **UNSURE)
    suggestion = Hybrid(model, FakeEndpoint("cloud"), Policy(deadline_ms=None)).suggest("text")
    receipt = suggestion.receipt
    assert (suggestion.text, receipt.decision, receipt.gate) == ("cloud", "hedge", 0.05)
    assert receipt.attempts[0].started_ms < 100


def test_a_needless_question_is_taken_back() -> None:
    """Where the local answer turns out well it is served at once; the receipt still shows what left."""
    endpoint = FakeStreamingEndpoint(Reply("late", delay_s=60))
    suggestion = Hybrid(FakeModel("local", gate=0.05, delay_s=0.02, **SURE), endpoint).suggest("some text")
    receipt = suggestion.receipt
    assert (suggestion.text, suggestion.source, receipt.error) == ("local", "local", None)
    assert (receipt.decision, receipt.sent, receipt.endpoint) == ("hedge", "some text", endpoint.url)
    assert [(attempt.error, attempt.bytes_sent) for attempt in receipt.attempts] == [("cancelled", len("some text"))]


def test_an_easy_input_is_not_sent_early() -> None:
    """A gate that expects a right answer sends nothing."""
    cloud = FakeEndpoint("cloud")
    suggestion = Hybrid(FakeModel("local", gate=0.9, **SURE), cloud).suggest("text")
    assert (suggestion.receipt.gate, cloud.calls) == (0.9, [])


@pytest.mark.parametrize(
    ("policy", "calibrated", "expected"),
    [
        (Policy(), 0.8, True),
        (Policy(), None, False),  # an uncalibrated model is served as it is
        (Policy(threshold=0.5), None, True),
        (Policy(threshold=0.0), 0.8, False),  # every local answer is served, so that nothing may leave
        (Policy(hedge_below=None), 0.8, False),
        (Policy(hedge_below=0.05), 0.8, False),
        (Policy(mode="only_local"), 0.8, False),
    ],
)
def test_when_a_question_is_hedged(policy: Policy, calibrated: float | None, expected: bool) -> None:
    """Only where the local answer could be deferred, and the gate is below the policy's bound."""
    assert hedges(policy, gate=0.1, calibrated=calibrated) is expected


def test_nothing_is_hedged_without_an_endpoint() -> None:
    """The gate alone sends nothing anywhere."""
    assert Hybrid(FakeModel("local", gate=0.0, **UNSURE)).suggest("text").receipt.attempts == ()


def test_a_model_that_fails_takes_the_question_back() -> None:
    """An error of the local model is raised, and no thread stays behind waiting."""

    class Broken(FakeModel):
        def generate(self, *args: object, on_gate: object = None, **_: object) -> object:  # type: ignore[override]
            assert callable(on_gate)
            on_gate(0.0)
            raise RuntimeError("no memory")

    endpoint = FakeStreamingEndpoint(EndpointServerError("busy"))
    with pytest.raises(RuntimeError, match="no memory"):
        Hybrid(Broken("", **UNSURE), endpoint, Policy(deadline_ms=None)).suggest("text")
