"""A hybrid: which answer is served, why, and what left the device for it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pocketseq.endpoint import Completion
from pocketseq.errors import (
    EndpointAuthError,
    EndpointError,
    EndpointRateLimitError,
    EndpointResponseError,
    EndpointServerError,
    EndpointTimeoutError,
    EndpointUnavailableError,
    InputError,
)
from pocketseq.hybrid import Final, Hybrid
from pocketseq.policy import Mode, Policy
from pocketseq.template import Field, Template
from pocketseq.testing import FakeEndpoint, FakeModel, FakeStreamingEndpoint, Reply

SURE = {"confidence": 0.9, "threshold": 0.8}
UNSURE = {"confidence": 0.3, "threshold": 0.8}


def test_a_confident_answer_stays_local() -> None:
    """In the default mode an answer above the calibrated threshold is served and nothing leaves."""
    cloud = FakeEndpoint("cloud")
    suggestion = Hybrid(FakeModel("local", **SURE), cloud).suggest("text")
    assert (suggestion.text, suggestion.source, suggestion.confidence) == ("local", "local", 0.9)
    receipt = suggestion.receipt
    assert (receipt.decision, receipt.score, receipt.threshold, receipt.calibration is not None) == ("serve", 0.9, 0.8, True)
    assert (receipt.endpoint, receipt.sent, receipt.attempts, receipt.bytes_sent, receipt.cost) == (None, None, (), 0, None)
    assert cloud.calls == []


def test_an_unsure_answer_is_replaced_by_the_clouds() -> None:
    """Below the threshold the cloud's answer is served; the local one comes along, and the receipt says what it cost."""
    cloud = FakeEndpoint("from the cloud")
    suggestion = Hybrid(FakeModel("local", **UNSURE), cloud).suggest("some text")
    assert (suggestion.text, suggestion.source, suggestion.confidence) == ("from the cloud", "cloud", 0.3)
    assert suggestion.local is not None
    assert suggestion.local.text == "local"
    receipt = suggestion.receipt
    assert (receipt.decision, receipt.endpoint, receipt.error) == ("ask", cloud.url, None)
    assert (receipt.sent, receipt.bytes_sent, receipt.bytes_received) == ("some text", len("some text"), len("from the cloud"))
    assert (receipt.prompt_tokens, receipt.completion_tokens) == (2, 3)
    (attempt,) = receipt.attempts
    assert attempt.error is None
    assert 0 <= attempt.started_ms <= attempt.started_ms + attempt.latency_ms <= receipt.total_ms


def test_prefer_cloud_serves_the_cloud() -> None:
    """The mode prefer_cloud serves the cloud's answer even where the local one is sure."""
    suggestion = Hybrid(FakeModel("local", **SURE), FakeEndpoint("cloud"), Policy(mode="prefer_cloud")).suggest("text")
    assert (suggestion.text, suggestion.source) == ("cloud", "cloud")


def test_only_local_never_asks() -> None:
    """The mode only_local never asks, though an endpoint is configured."""
    cloud = FakeEndpoint("cloud")
    suggestion = Hybrid(FakeModel("local", **UNSURE), cloud, Policy(mode="only_local")).suggest("text")
    assert (suggestion.text, suggestion.receipt.attempts, cloud.calls) == ("local", (), [])


def test_only_cloud_does_not_decode_locally() -> None:
    """The mode only_cloud leaves the local model alone."""
    model = FakeModel("local", **SURE)
    suggestion = Hybrid(model, FakeEndpoint("cloud"), Policy(mode="only_cloud")).suggest("text")
    assert (suggestion.text, suggestion.source, suggestion.confidence, suggestion.local) == ("cloud", "cloud", None, None)
    assert model.inputs == []


FAILURES = [
    EndpointUnavailableError("down"),
    EndpointTimeoutError("slow"),
    EndpointAuthError("401"),
    EndpointRateLimitError("429"),
    EndpointServerError("500"),
    EndpointResponseError("garbage"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("mode", ["prefer_local", "prefer_cloud"])
def test_the_local_answer_stands_when_the_cloud_fails(mode: Mode, failure: EndpointError) -> None:
    """Whatever the cloud does, the local answer is served, and reason and receipt name what happened."""
    suggestion = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint(failure), Policy(mode=mode)).suggest("text")
    assert (suggestion.text, suggestion.source) == ("local", "local")
    assert "the local answer stands" in suggestion.reason
    assert str(failure) in suggestion.reason
    assert suggestion.receipt.error == type(failure).__name__
    assert {attempt.error for attempt in suggestion.receipt.attempts} == {type(failure).__name__}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_only_cloud_raises_what_went_wrong(failure: EndpointError) -> None:
    """Where there is no local answer to stand the endpoint's own error is raised."""
    hybrid = Hybrid(FakeModel("local"), FakeEndpoint(failure), Policy(mode="only_cloud"))
    with pytest.raises(type(failure)):
        hybrid.suggest("text")


def test_an_endpoint_that_breaks_its_contract_loses_nothing() -> None:
    """An endpoint of somebody else's that raises what it should not costs the local answer nothing."""

    class Broken(FakeEndpoint):
        def complete(self, prompt: str, **_: object) -> Completion:
            raise ZeroDivisionError("oops")

    suggestion = Hybrid(FakeModel("local", **UNSURE), Broken("")).suggest("text")
    assert suggestion.text == "local"
    assert "the endpoint raised ZeroDivisionError" in suggestion.reason
    assert "oops" not in suggestion.reason  # its words may hold what must not be written down
    with pytest.raises(EndpointError, match="ZeroDivisionError"):
        Hybrid(FakeModel("local"), Broken(""), Policy(mode="only_cloud")).suggest("text")


def test_half_an_answer_is_none() -> None:
    """An answer that a token limit cut is not served; its cost still stands in the receipt."""
    suggestion = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint(Reply("half", finish_reason="length"))).suggest("text")
    assert (suggestion.text, suggestion.receipt.error, suggestion.receipt.bytes_received) == ("local", "EndpointResponseError", 4)
    assert "cut at its token limit" in suggestion.reason


def test_an_answer_that_a_filter_cut_off_is_none() -> None:
    """The endpoint let through no more of it: the local answer stands, whole or streamed, and the tokens were spent."""
    for endpoint in (FakeEndpoint, FakeStreamingEndpoint):
        hybrid = Hybrid(FakeModel("local", **UNSURE), endpoint(Reply("for i", finish_reason="content_filter")))
        suggestion = next(event.suggestion for event in hybrid.stream("text") if isinstance(event, Final))
        receipt = suggestion.receipt
        assert (suggestion.text, receipt.error, receipt.completion_tokens) == ("local", "EndpointRefusalError", 2)
        assert "filter cut off" in suggestion.reason


def test_an_empty_answer_of_the_cloud_counts() -> None:
    """An empty text is an answer: nothing is to be added there."""
    suggestion = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint("")).suggest("text")
    assert (suggestion.text, suggestion.source) == ("", "cloud")


@pytest.mark.parametrize("mode", ["prefer_local", "prefer_cloud"])
def test_without_an_endpoint_nothing_leaves_and_the_reason_says_so(mode: Mode) -> None:
    """A hybrid without an endpoint serves the local answer."""
    suggestion = Hybrid(FakeModel("local", **UNSURE), policy=Policy(mode=mode)).suggest("text")
    assert (suggestion.text, suggestion.receipt.attempts, suggestion.receipt.endpoint) == ("local", (), None)
    assert "no endpoint is configured" in suggestion.reason


def test_only_cloud_without_an_endpoint_raises() -> None:
    """The mode only_cloud needs an endpoint."""
    with pytest.raises(EndpointUnavailableError, match="found none configured"):
        Hybrid(FakeModel("local"), policy=Policy(mode="only_cloud")).suggest("text")


def test_an_uncalibrated_model_is_served_locally() -> None:
    """Without calibration no threshold is invented: the local answer is served and called uncalibrated."""
    cloud = FakeEndpoint("cloud")
    suggestion = Hybrid(FakeModel("local", confidence=0.01), cloud).suggest("text")
    assert suggestion.text == "local"
    assert "uncalibrated" in suggestion.reason
    assert cloud.calls == []


def test_the_cloud_is_sent_the_template_s_prompt() -> None:
    """Fields go to the cloud as the template writes them, with its instruction."""
    fields = (Field("before", max_tokens=8), Field("line", max_tokens=8))
    template = Template(fields=fields, primary="line", instruction="Repair the line.")
    cloud = FakeEndpoint("cloud")
    source = {"before": "def f():", "line": "retrun 1"}
    Hybrid(FakeModel("local", template=template, **UNSURE), cloud).suggest(source)
    assert cloud.calls[0].instruction == "Repair the line."
    assert template.parse_prompt(cloud.calls[0].prompt) == source


@pytest.mark.parametrize("mode", ["only_local", "prefer_local", "prefer_cloud", "only_cloud"])
@pytest.mark.parametrize("source", ["", "  ", 5, {"other": "x"}, "\ud800"])
def test_bad_input_is_refused_before_anything_leaves(mode: Mode, source: Any) -> None:
    """Input that the template does not take is an InputError in every mode, and the cloud does not hear of it."""
    cloud = FakeEndpoint("cloud")
    hybrid = Hybrid(FakeModel("local", **UNSURE), cloud, Policy(mode=mode))
    with pytest.raises(InputError):
        hybrid.suggest(source)
    with pytest.raises(InputError):
        hybrid.stream(source)
    assert cloud.calls == []


def test_asuggest_leaves_the_event_loop_free() -> None:
    """The asynchronous form gives the same answer, and other tasks run meanwhile."""

    async def main() -> tuple[str, list[int]]:
        hybrid = Hybrid(FakeModel("local", **UNSURE), FakeEndpoint(Reply("cloud", delay_s=0.1)), Policy(deadline_ms=None))
        ticks: list[int] = []

        async def tick() -> None:
            while True:
                ticks.append(len(ticks))
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        suggestion = await hybrid.asuggest("text")
        ticking.cancel()
        return suggestion.text, ticks

    text, ticks = asyncio.run(main())
    assert text == "cloud"
    assert len(ticks) > 1


@pytest.mark.parametrize(
    ("mode", "text", "source"),
    [("only_local", "local", "local"), ("prefer_cloud", "cloud", "cloud"), ("only_cloud", "cloud", "cloud")],
)
def test_a_call_may_name_a_mode_of_its_own(mode: Mode, text: str, source: str) -> None:
    """The mode of a call comes before the policy's, for that call alone."""
    hybrid = Hybrid(FakeModel("local", **SURE), FakeEndpoint("cloud"))
    suggestion = hybrid.suggest("text", mode=mode)
    assert (suggestion.text, suggestion.source) == (text, source)
    assert hybrid.suggest("other text").source == "local"


def test_prefer_cloud_asks_while_the_local_answer_is_made() -> None:
    """Where the cloud is asked in any case it need not wait for the local answer."""
    cloud = FakeEndpoint("cloud")
    model = FakeModel("local", delay_s=0.1, **SURE)
    suggestion = Hybrid(model, cloud, Policy(mode="prefer_cloud", deadline_ms=None)).suggest("text")
    assert suggestion.source == "cloud"
    assert suggestion.receipt.attempts[0].started_ms < 100


def test_an_endpoint_that_overstays_is_left_behind() -> None:
    """An endpoint of somebody else's that takes no heed of its deadline costs no more than the deadline."""

    class Deaf(FakeEndpoint):
        def complete(self, prompt: str, **_: object) -> Completion:
            over.wait(30)
            return super().complete(prompt)

    over = threading.Event()
    suggestion = Hybrid(FakeModel("local", **UNSURE), Deaf("late"), Policy(deadline_ms=50)).suggest("some text")
    over.set()
    assert (suggestion.text, suggestion.receipt.error) == ("local", "EndpointTimeoutError")
    (attempt,) = suggestion.receipt.attempts
    assert (attempt.error, attempt.bytes_sent) == ("EndpointTimeoutError", len("some text"))  # it counts as sent


def test_many_threads_share_a_hybrid() -> None:
    """Concurrent calls each get their own answer."""
    cloud = FakeEndpoint("cloud")
    hybrid = Hybrid(FakeModel("local", **UNSURE), cloud)
    with ThreadPoolExecutor(8) as pool:
        suggestions = list(pool.map(hybrid.suggest, [f"text {number}" for number in range(64)]))
    assert {suggestion.text for suggestion in suggestions} == {"cloud"}
    assert sorted(call.prompt for call in cloud.calls) == sorted(f"text {number}" for number in range(64))
