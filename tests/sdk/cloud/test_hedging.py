"""Hedged starts: the cloud is asked while the local answer is still being decoded, where the gate says that it will be wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from pocketseq.errors import EndpointServerError
from pocketseq.hybrid import Hybrid
from pocketseq.policy import Policy, hedges
from pocketseq.privacy import Finding
from pocketseq.results import Result
from pocketseq.template import Input
from pocketseq.testing import FakeEndpoint, FakeModel, FakeStreamingEndpoint, Reply, SimulatedClock

SURE = {"confidence": 0.9, "threshold": 0.8}
UNSURE = {"confidence": 0.3, "threshold": 0.8}


class Overtaken(FakeModel):
    """Answers when the question that its gate began has ended."""

    def generate(self, source: Input, /, **options: Any) -> Result:
        before = set(threading.enumerate())
        result = super().generate(source, **options)
        for thread in set(threading.enumerate()) - before:
            thread.join(30)
        return result


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


@pytest.mark.parametrize("endpoint", [FakeEndpoint("one two"), FakeStreamingEndpoint("one two")], ids=["whole", "streamed"])
def test_a_question_that_had_ended_when_it_became_needless_is_no_failure(endpoint: FakeEndpoint) -> None:
    """The local answer is served and kept; the receipt tells what the cloud's used, and the same input is not sent again."""
    hybrid = Hybrid(Overtaken("local", gate=0.05, **SURE), endpoint, Policy(deadline_ms=None))
    suggestion = hybrid.suggest("some text")
    receipt = suggestion.receipt
    assert (suggestion.text, suggestion.source, receipt.error) == ("local", "local", None)
    assert ([attempt.error for attempt in receipt.attempts], receipt.sent) == ([None], "some text")
    assert (receipt.prompt_tokens, receipt.completion_tokens, receipt.bytes_received) == (2, 2, len("one two"))
    assert hybrid.suggest("some text").source == "cache"
    assert len(endpoint.calls) == 1


def test_a_question_that_had_failed_when_it_became_needless_is_no_failure() -> None:
    """Its request shows the error; the local answer, which was to be served in any case, is kept."""
    endpoint = FakeEndpoint(EndpointServerError("500", status=500, retryable=False))
    hybrid = Hybrid(Overtaken("local", gate=0.05, **SURE), endpoint, Policy(deadline_ms=None))
    receipt = hybrid.suggest("text").receipt
    assert (receipt.error, [attempt.error for attempt in receipt.attempts]) == (None, ["EndpointServerError"])
    assert hybrid.suggest("text").source == "cache"


def test_a_question_that_became_needless_before_it_began_is_no_failure() -> None:
    """Nothing leaves afterwards, and the local answer is kept."""
    served, looked = threading.Event(), threading.Event()

    def slow(_: str, /) -> Iterable[Finding]:
        served.wait(30)
        looked.set()
        return ()

    cloud = FakeEndpoint("cloud")
    hybrid = Hybrid(FakeModel("local", gate=0.05, **SURE), cloud, Policy(deadline_ms=None), detectors=[slow])
    before = set(threading.enumerate())
    receipt = hybrid.suggest("text").receipt
    asking = set(threading.enumerate()) - before
    served.set()
    assert looked.wait(30)
    for thread in asking:
        thread.join(30)
    assert (receipt.decision, receipt.error, receipt.attempts, receipt.sent) == ("hedge", None, (), None)
    assert hybrid.suggest("text").source == "cache"
    assert cloud.calls == []


@pytest.mark.parametrize("reason", ["deadline", "cancelled"])
def test_a_cloud_answer_that_is_there_beats_a_local_one_that_was_cut(reason: Any) -> None:
    """Half an answer is likelier than the whole one, so that its confidence says nothing, and is told nobody."""
    clock = SimulatedClock()

    class Cut(Overtaken):
        def generate(self, source: Input, /, **options: Any) -> Result:
            result = super().generate(source, **options)
            clock.wait(60)
            return replace(result, finish_reason=reason)

    suggestion = Hybrid(Cut("loc", gate=0.05, **SURE), FakeEndpoint("cloud"), clock=clock).suggest("text")
    assert (suggestion.text, suggestion.source, suggestion.receipt.decision) == ("cloud", "cloud", "hedge")
    assert (suggestion.confidence, suggestion.receipt.score, suggestion.receipt.error) == (None, None, None)
    assert "the local answer has no confidence" in suggestion.reason
    assert "cut the local answer short" in suggestion.reason


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
