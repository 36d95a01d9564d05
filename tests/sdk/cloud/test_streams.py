"""Streams: drafts at once, a hand-over that never doubles or mixes text, and one end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from pocketseq.errors import EndpointServerError, EndpointUnavailableError, InputError
from pocketseq.hybrid import Draft, Event, Final, Hybrid, Replace
from pocketseq.policy import Policy
from pocketseq.privacy import Finding
from pocketseq.results import Result
from pocketseq.template import Input
from pocketseq.testing import FakeEndpoint, FakeModel, FakeStreamingEndpoint, Reply

SURE = {"confidence": 0.9, "threshold": 0.8}
UNSURE = {"confidence": 0.3, "threshold": 0.8}


def shown(events: Iterable[Event]) -> Iterator[str]:
    """What a consumer shows after each event; checks that the last, and only the last, is final and is what is shown."""
    text, ended = "", False
    for event in events:
        assert not ended
        if isinstance(event, Draft):
            assert event.text
            text += event.text
        elif isinstance(event, Replace):
            assert event.text != text
            text = event.text
        else:
            ended = True
            assert event.suggestion.text == text
        yield text
    assert ended


def kinds(events: Iterable[Event]) -> list[type[Event]]:
    """Kinds of events, each run of one kind once."""
    seen: list[type[Event]] = []
    for event in events:
        if not seen or type(event) is not seen[-1]:
            seen.append(type(event))
    return seen


@pytest.mark.parametrize("hybrid", [
    Hybrid(FakeModel("local text", **UNSURE), FakeEndpoint("cloud"), Policy(mode="only_local")),
    Hybrid(FakeModel("local text", **UNSURE)),
    Hybrid(FakeModel("local text", **SURE), FakeEndpoint("cloud")),
])  # fmt: skip
def test_the_local_answer_appears_as_it_is_decoded(hybrid: Hybrid) -> None:
    """Where the local answer stands its pieces come one by one, and nothing replaces them."""
    events = list(hybrid.stream("text"))
    assert kinds(events) == [Draft, Final]
    assert len(events) == len("local text") + 1
    assert list(shown(events))[-1] == "local text"
    assert events[-1].suggestion.source == "local"


@pytest.mark.parametrize("endpoint", [FakeEndpoint("cloud text"), FakeStreamingEndpoint("cloud text")])
def test_the_cloud_replaces_the_draft(endpoint: FakeEndpoint) -> None:
    """The local answer is shown until the cloud's is there; then that takes its place, once."""
    events = list(Hybrid(FakeModel("local text", **UNSURE), endpoint).stream("text"))
    steps = list(shown(events))
    assert "local text" in steps
    assert steps[-1] == "cloud text"
    assert [type(event) for event in events].count(Replace) == 1
    assert events[-1].suggestion.source == "cloud"


def test_a_streamed_answer_comes_in_pieces() -> None:
    """After the replacement the cloud's pieces are appended as they come."""
    endpoint = FakeStreamingEndpoint(Reply(pieces=("one ", "two ", "three")))
    events = list(Hybrid(FakeModel("local", **UNSURE), endpoint).stream("text"))
    assert events[5:-1] == [Replace("one "), Draft("two "), Draft("three")]


def test_an_answer_that_agrees_changes_nothing() -> None:
    """Where the cloud says what is shown already, the consumer sees no flicker; where it says less or more, one replacement."""
    for text, replaced in (("local text", False), ("local", True), ("local text!", True)):
        events = list(Hybrid(FakeModel("local text", **UNSURE), FakeStreamingEndpoint(text)).stream("text"))
        assert kinds(events) == ([Draft, Replace, Final] if replaced else [Draft, Final])
        assert list(shown(events))[-1] == text
        assert events[-1].suggestion.source == "cloud"


@pytest.mark.parametrize("pieces", [(), ("half ",), ("local", " and half ")])
def test_a_cloud_that_breaks_off_gives_the_draft_back(pieces: tuple[str, ...]) -> None:
    """Half an answer is taken back, and the local one stands again."""
    broken = Reply(pieces=pieces, text="x", error=EndpointUnavailableError("broke off", retryable=False))
    events = list(Hybrid(FakeModel("local", **UNSURE), FakeStreamingEndpoint(broken)).stream("text"))
    assert list(shown(events))[-1] == "local"
    suggestion = events[-1].suggestion
    assert (suggestion.source, suggestion.receipt.error) == ("local", "EndpointUnavailableError")


def test_no_retry_after_the_first_piece() -> None:
    """A stream that broke off after a piece is not asked again; one that broke off before it is."""
    after = FakeStreamingEndpoint(Reply(pieces=("half",), error=EndpointServerError("broke")), "whole")
    before = FakeStreamingEndpoint(EndpointServerError("busy"), "whole")
    for endpoint, calls, text in ((after, 1, "local"), (before, 2, "whole")):
        events = list(Hybrid(FakeModel("local", **UNSURE), endpoint, Policy(deadline_ms=None)).stream("text"))
        assert (len(endpoint.calls), list(shown(events))[-1]) == (calls, text)


def test_only_cloud_streams_the_cloud_alone() -> None:
    """Without a local answer the pieces of the cloud are the drafts; a failure is raised."""
    model = FakeModel("local", **UNSURE)
    events = list(Hybrid(model, FakeStreamingEndpoint("one two"), Policy(mode="only_cloud")).stream("text"))
    assert events[:-1] == [Draft("one"), Draft(" two")]
    with pytest.raises(EndpointServerError):
        list(Hybrid(model, FakeStreamingEndpoint(EndpointServerError("x", retryable=False)), Policy(mode="only_cloud")).stream("t"))
    assert model.inputs == []


def test_prefer_cloud_shows_the_draft_first() -> None:
    """The local answer is shown at once also where the cloud's is wanted."""
    events = list(Hybrid(FakeModel("local", **SURE), FakeStreamingEndpoint("cloud"), Policy(mode="prefer_cloud")).stream("text"))
    assert kinds(events) == [Draft, Replace, Final]


def test_bad_input_is_refused_at_the_call() -> None:
    """Not at the first event, which may be far from the slip."""
    with pytest.raises(InputError):
        Hybrid(FakeModel("local")).stream("")


def test_closing_a_stream_takes_the_question_back() -> None:
    """A consumer that leaves stops the cloud's answer too."""
    endpoint = FakeStreamingEndpoint(Reply("late", delay_s=60))
    opened = []
    stream_of = endpoint.stream
    endpoint.stream = lambda *a, **k: opened.append(stream_of(*a, **k)) or opened[-1]  # type: ignore[method-assign]
    stream = Hybrid(FakeModel("local", **UNSURE), endpoint, Policy(mode="prefer_cloud", deadline_ms=None)).stream("text")
    assert isinstance(next(stream), Draft)
    stream.close()
    while not opened:
        pass
    assert opened[0].closed.wait(30)


def test_a_stream_for_asyncio() -> None:
    """The asynchronous form gives the same events, and leaving it early takes the question back."""
    endpoint = FakeStreamingEndpoint("cloud text")
    hybrid = Hybrid(FakeModel("local", **UNSURE), endpoint)

    async def whole() -> list[Event]:
        return [event async for event in hybrid.astream("text")]

    events = asyncio.run(whole())
    assert kinds(events) == [Draft, Replace, Draft, Final]
    assert list(shown(events))[-1] == "cloud text"

    slow = Hybrid(FakeModel("local", **UNSURE), FakeStreamingEndpoint(Reply("late", delay_s=60)), Policy(deadline_ms=None))

    async def early() -> Event:
        stream = slow.astream("text")
        first = await anext(stream)
        await stream.aclose()
        return first

    assert asyncio.run(early()) == Draft("l")
    assert left_alone("pocketseq-call")


def test_errors_reach_an_asynchronous_consumer() -> None:
    """What a stream raises, its asynchronous form raises."""
    hybrid = Hybrid(FakeModel("local"), FakeEndpoint(EndpointServerError("x", retryable=False)), Policy(mode="only_cloud"))

    async def consume() -> None:
        async for _ in hybrid.astream("text"):
            pass

    with pytest.raises(EndpointServerError):
        asyncio.run(consume())


def test_cancelling_an_asynchronous_call_takes_the_question_back() -> None:
    """A task that is cancelled ends at once, and so does its thread."""
    endpoint = FakeStreamingEndpoint(Reply("late", delay_s=60))
    hybrid = Hybrid(FakeModel("local", gate=0.0, **UNSURE), endpoint, Policy(deadline_ms=None))
    asyncio.run(cancelled(hybrid, endpoint))
    assert left_alone("pocketseq-call")


def test_a_call_that_nobody_waited_for_leaves_no_answer_behind() -> None:
    """The local answer that it ended with stood only because the cloud was not heard: the next call hears it."""
    endpoint = FakeStreamingEndpoint(Reply("late", delay_s=60), "cloud")
    hybrid = Hybrid(FakeModel("local", **UNSURE), endpoint, Policy(deadline_ms=None))
    asyncio.run(cancelled(hybrid, endpoint))
    assert left_alone("pocketseq-call")
    assert hybrid.suggest("text").text == "cloud"


def test_cancelling_a_call_breaks_off_a_question_that_was_asked_plainly() -> None:
    """Not only one that was asked early: the endpoint need not answer what nobody waits for."""
    endpoint = FakeStreamingEndpoint(Reply("late", delay_s=600))
    hybrid = Hybrid(FakeModel("local", **UNSURE), endpoint, Policy(deadline_ms=None))
    asyncio.run(cancelled(hybrid, endpoint))
    assert left_alone("pocketseq-ask")


@pytest.mark.parametrize(("confidence", "audit"), [(0.3, 0.0), (0.9, 1.0)], ids=["an answer", "an audit"])
def test_nothing_is_asked_for_a_call_that_was_cancelled_before(confidence: float, audit: float) -> None:
    """The local model may go on decoding; what it ends with sends no text of a user who has left."""
    decoding, left = threading.Event(), threading.Event()

    class Slow(FakeModel):
        def generate(self, source: Input, /, **options: Any) -> Result:
            decoding.set()
            assert left.wait(30)
            return super().generate(source, **options)

    endpoint = FakeEndpoint("cloud")
    hybrid = Hybrid(Slow("local", confidence=confidence, threshold=0.8), endpoint, Policy(deadline_ms=None, audit=audit))
    asyncio.run(left_while(hybrid, decoding, left))
    assert left_alone("pocketseq-call")
    assert left_alone("pocketseq-ask")
    assert endpoint.calls == []


@pytest.mark.parametrize(("confidence", "audit"), [(0.3, 0.0), (0.9, 1.0)], ids=["an answer", "an audit"])
def test_nothing_is_asked_for_a_call_that_is_cancelled_while_detectors_read(confidence: float, audit: float) -> None:
    """What they let through comes too late: the user has left."""
    reading, left = threading.Event(), threading.Event()

    def slow(text: str) -> tuple[Finding, ...]:
        reading.set()
        assert left.wait(30)
        return ()

    endpoint, policy = FakeEndpoint("cloud"), Policy(deadline_ms=None, audit=audit)
    hybrid = Hybrid(FakeModel("local", confidence=confidence, threshold=0.8), endpoint, policy, detectors=[slow])
    asyncio.run(left_while(hybrid, reading, left))
    assert left_alone("pocketseq-call")
    assert left_alone("pocketseq-ask")
    assert endpoint.calls == []


async def left_while(hybrid: Hybrid, busy: threading.Event, left: threading.Event) -> None:
    """Ask, leave as soon as something is busy, and tell it so."""
    task = asyncio.create_task(hybrid.asuggest("text"))
    await asyncio.to_thread(busy.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left.set()


async def cancelled(hybrid: Hybrid, endpoint: FakeStreamingEndpoint) -> None:
    """Ask, and leave as soon as the endpoint was asked."""
    task = asyncio.create_task(hybrid.asuggest("text"))
    while not endpoint.calls:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def left_alone(name: str) -> bool:
    """Whether all threads of a name end soon."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(30)
    return not any(thread.name == name for thread in threading.enumerate())
