"""The deadline by design: whatever gets stuck between hybrid and cloud, the caller has left by then, with the local answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from pocketseq.endpoint import Completion
from pocketseq.errors import EndpointTimeoutError, PolicyError
from pocketseq.hybrid import Draft, Hybrid
from pocketseq.hybrid import Final as Ending
from pocketseq.policy import Policy
from pocketseq.privacy import Finding
from pocketseq.results import Result
from pocketseq.testing import FakeEndpoint, FakeModel, Reply

UNSURE = {"confidence": 0.3, "threshold": 0.8}
SURE_BUT_FOR_THE_GATE = {"confidence": 0.9, "threshold": 0.8, "gate": 0.01}
PLACES: Final = ("complete", "stream", "pieces", "close")


class Stuck:
    """A ``StreamingEndpoint`` that gets stuck in one place until the test is over, and tells whether anybody waited for that."""

    url = "https://stuck.invalid/v1"

    def __init__(self, place: str) -> None:
        self.over = threading.Event()
        self.waited_for = False
        self.reached = threading.Event()
        self._place = place

    def hang(self, place: str) -> None:
        if place == self._place:
            self.reached.set()
            self.waited_for = not self.over.wait(30)

    def complete(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> Completion:
        self.hang("complete")
        return self.completion

    def stream(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> Stuck:
        self.hang("stream")
        return self

    def __iter__(self) -> Iterator[str]:
        self.hang("pieces")
        yield "cloud"
        if self._place == "close":
            self.over.wait(30)

    @property
    def completion(self) -> Completion:
        return Completion("cloud", "stop", None, None, None, 1.0, 10, 10)

    def close(self) -> None:
        self.hang("close")


@pytest.fixture(params=PLACES)
def stuck(request: pytest.FixtureRequest) -> Iterator[Stuck]:
    endpoint = Stuck(request.param)
    yield endpoint
    endpoint.over.set()


def test_a_stuck_endpoint_is_left_at_the_deadline(stuck: Stuck) -> None:
    """Asked whole or as a stream, hedged or not, from a thread or an event loop."""
    policy = Policy(deadline_ms=40, cache_size=0, retries=0)
    for kind in (UNSURE, {**UNSURE, "gate": 0.01}):
        hybrid = Hybrid(FakeModel("local", **kind), stuck, policy)
        found = [hybrid.suggest("text"), asyncio.run(hybrid.asuggest("text"))]
        *_, last = hybrid.stream("text")
        assert isinstance(last, Ending)
        found.append(last.suggestion)
        assert all(suggestion.local is not None and suggestion.local.text == "local" for suggestion in found)
    assert stuck.reached.is_set()
    assert not stuck.waited_for


def test_a_hedge_whose_stream_cannot_be_closed_holds_nobody_up() -> None:
    """The local answer is good after all: it is given, while the question is still being taken back."""
    endpoint = Stuck("close")
    try:
        suggestion = Hybrid(FakeModel("local", delay_s=0.05, **SURE_BUT_FOR_THE_GATE), endpoint, Policy(deadline_ms=None)).suggest(
            "text"
        )
        assert (suggestion.text, suggestion.source, suggestion.receipt.decision) == ("local", "local", "hedge")
        assert endpoint.reached.wait(30)
        assert not endpoint.waited_for
    finally:
        endpoint.over.set()


def test_a_stream_that_fails_to_close_fails_nobody() -> None:
    """Nothing hangs on how that ends."""

    class Broken(Stuck):
        def close(self) -> None:
            raise OSError("broken")

    hybrid = Hybrid(FakeModel("local", **UNSURE), Broken("nowhere"), Policy(cache_size=0))
    assert [event.text for event in hybrid.stream("text") if isinstance(event, Draft)] == [*"local"]
    assert hybrid.suggest("text").text == "cloud"
    hedged = Hybrid(FakeModel("local", delay_s=0.05, **SURE_BUT_FOR_THE_GATE), Broken("nowhere"), Policy(deadline_ms=None))
    assert hedged.suggest("text").text == "local"


def test_a_stuck_detector_is_left_at_the_deadline() -> None:
    """Nothing leaves while it looks, and the local answer does not wait for it, nor does decoding for a hedge."""
    over, waited = threading.Event(), []

    def slow(_: str, /) -> Iterable[Finding]:
        waited.append(not over.wait(30))
        return ()

    try:
        for kind in (UNSURE, {**UNSURE, "gate": 0.01}):
            cloud = FakeEndpoint("cloud")
            suggestion = Hybrid(FakeModel("local", **kind), cloud, Policy(deadline_ms=40), detectors=[slow]).suggest("text")
            assert (suggestion.text, suggestion.receipt.error) == ("local", EndpointTimeoutError.__name__)
            assert (suggestion.receipt.bytes_sent, suggestion.receipt.sent, cloud.calls) == (0, None, [])
        assert waited == []
    finally:
        over.set()


def test_the_cloud_gets_what_is_left_of_the_deadline() -> None:
    """Local decoding is paid out of the one deadline."""
    slow = FakeModel("local", delay_s=0.05, **UNSURE)
    cloud = FakeEndpoint("cloud")
    Hybrid(slow, cloud, Policy(deadline_ms=60_000)).suggest("text")
    (call,) = cloud.calls
    assert call.deadline_s is not None
    assert call.deadline_s <= 59.95

    late = Hybrid(slow, cloud, Policy(deadline_ms=10)).suggest("text")
    assert len(cloud.calls) == 1
    assert late.text == "local"
    assert "the local answer took the whole deadline of 10 ms; nothing was sent" in late.reason
    assert (late.receipt.error, late.receipt.attempts, late.receipt.sent) == ("EndpointTimeoutError", (), None)


def test_a_slow_cloud_is_given_up_at_the_deadline() -> None:
    """A cloud that takes longer than the deadline is not waited for."""
    suggestion = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint(Reply("late", delay_s=60)), Policy(deadline_ms=50)).suggest(
        "text"
    )
    assert (suggestion.text, suggestion.receipt.error) == ("local", "EndpointTimeoutError")
    assert suggestion.receipt.bytes_sent == len("text")


class Hurried(FakeModel):
    """Has no time for its whole answer."""

    def generate(self, *args: Any, **options: Any) -> Result:
        return replace(super().generate(*args, **options), finish_reason="deadline")


def test_an_answer_that_the_deadline_cut_is_served_as_such() -> None:
    """It stands where there is no time for more, and says so; it is neither trusted nor audited, nor kept."""
    model = Hurried("loc", confidence=0.9, threshold=0.8, delay_s=60)
    hybrid = Hybrid(model, cloud := FakeEndpoint("cloud"), Policy(deadline_ms=20, audit=1.0))
    suggestion = hybrid.suggest("text")
    assert (suggestion.text, suggestion.source, suggestion.confidence) == ("loc", "local", None)
    assert "reaches the calibrated threshold" not in suggestion.reason
    assert "the local answer has no confidence; the deadline came first, and cut the local answer short" in suggestion.reason
    receipt = suggestion.receipt
    assert (receipt.score, receipt.error, receipt.audited, cloud.calls) == (None, "EndpointTimeoutError", False, [])
    assert hybrid.suggest("text").source == "local"


def test_an_answer_that_a_deadline_cut_is_not_kept_where_nothing_is_asked() -> None:
    """The next call makes a whole one."""
    hybrid = Hybrid(Hurried("loc", confidence=0.9, threshold=0.8))
    suggestion = hybrid.suggest("text", mode="only_local")
    assert suggestion.reason == "the mode is only_local; the deadline came first, and cut the local answer short"
    assert hybrid.suggest("text", mode="only_local").source == "local"


def test_no_deadline_is_handed_down_where_none_is_set() -> None:
    """Without a deadline the endpoint's own bound holds."""
    cloud = FakeEndpoint("cloud")
    Hybrid(FakeModel("local", **UNSURE), cloud, Policy(deadline_ms=None, max_tokens=5)).suggest("text")
    assert (cloud.calls[0].deadline_s, cloud.calls[0].max_tokens) == (None, 5)


def test_a_call_may_name_a_deadline_of_its_own() -> None:
    """In place of the policy's; one out of its range is refused, as a mode that there is not."""
    cloud = FakeEndpoint("cloud")
    hybrid = Hybrid(FakeModel("local", **UNSURE), cloud, Policy(deadline_ms=None))
    hybrid.suggest("text", deadline_ms=60_000)
    assert cloud.calls[0].deadline_s is not None
    assert 59 < cloud.calls[0].deadline_s <= 60
    with pytest.raises(PolicyError, match="deadline_ms: expected more than 0"):
        hybrid.suggest("text", deadline_ms=-1)
    with pytest.raises(PolicyError, match="mode: expected one of"):
        hybrid.suggest("text", mode="sometimes")  # type: ignore[arg-type]
