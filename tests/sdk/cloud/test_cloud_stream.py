"""Streams of a CloudEndpoint, over real HTTP: pieces as they come, and half a stream that is no answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pocketseq.cloud import CloudEndpoint
from pocketseq.errors import EndpointError, EndpointRefusalError, EndpointUnavailableError


def sse(*events: object, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> dict[str, object]:
    delta = {} if text is None else {"content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-2",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@pytest.fixture
def cloud(server: Any) -> Iterator[CloudEndpoint]:
    with CloudEndpoint(server.url, model="m", api_key=lambda: "sk-secret") as endpoint:
        yield endpoint


def test_a_real_stream(server: Any, cloud: CloudEndpoint) -> None:
    """Over HTTP: pieces as they come, then the completion with counts, model and sizes."""
    body = sse(chunk(""), chunk("one "), chunk("two"), chunk(finish="stop"), chunk(usage=USAGE) | {"choices": []})
    server.answer(body, content_type="text/event-stream")
    stream = cloud.stream("p", instruction="i", max_tokens=5)
    assert list(stream) == ["one ", "two"]
    completion = stream.completion
    assert (completion.text, completion.finish_reason, completion.model) == ("one two", "stop", "m-2")
    assert (completion.prompt_tokens, completion.completion_tokens) == (7, 3)
    assert (completion.request_bytes, completion.response_bytes) == (len(server.seen[0].body), len(body))
    assert server.seen[0].json["stream"] is True
    assert server.seen[0].json["stream_options"] == {"include_usage": True}
    assert server.seen[0].headers["Authorization"] == "Bearer sk-secret"


def test_a_server_that_does_not_stream_answers_whole(server: Any, cloud: CloudEndpoint, chat_answer: Callable[..., Any]) -> None:
    """A plain JSON answer to a streaming request is one piece."""
    server.answer(chat_answer("whole"))
    stream = cloud.stream("p")
    assert list(stream) == ["whole"]
    assert stream.completion.prompt_tokens == 7


@pytest.mark.parametrize(
    "body",
    [
        sse(chunk("half")),
        sse(chunk("half"), done=False),
        b"data: {broken\n\n",
        b"data: [1]\n\n",
        b'data: {"choices": 5}\n\n',
        b"",
        b"<html>",
        sse(chunk("half"), {"error": {"message": "overloaded", "type": "t", "param": None, "code": None}}),
    ],
)
def test_half_a_stream_is_no_answer(server: Any, cloud: CloudEndpoint, body: bytes) -> None:
    """A stream that ends before it says why, or that is none, is a typed error that is not asked again."""
    server.answer(body, content_type="text/event-stream")
    stream = cloud.stream("p")
    with pytest.raises(EndpointError) as caught:
        list(stream)
    assert not caught.value.retryable
    assert caught.value.__cause__ is None
    with pytest.raises(EndpointError, match="expected the pieces to be read"):
        _ = stream.completion


@pytest.mark.parametrize("content", [None, "", "As to that, "])
def test_a_streamed_refusal_is_no_answer(server: Any, cloud: CloudEndpoint, content: str | None) -> None:
    """What a model says in place of an answer comes in pieces too; it is none, whatever stands before it."""

    def piece(**delta: object) -> dict[str, object]:
        return chunk() | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    parts = (piece(role="assistant", content=content, refusal=None), piece(refusal="I can't help "), piece(refusal="with that."))
    server.answer(sse(*parts, chunk(finish="stop")), content_type="text/event-stream")
    with pytest.raises(EndpointRefusalError, match="found a refusal: I can't help with that.") as caught:
        list(cloud.stream("p"))
    assert not caught.value.retryable


@pytest.mark.parametrize("pieces", [(), ("",)])
def test_a_stream_that_a_filter_let_nothing_through_is_no_answer(
    server: Any, cloud: CloudEndpoint, pieces: tuple[str, ...]
) -> None:
    """It ends as ``complete`` does, not with an empty answer; one that was cut off later says so by its finish reason."""
    server.answer(sse(*map(chunk, pieces), chunk(finish="content_filter")), content_type="text/event-stream")
    with pytest.raises(EndpointRefusalError, match="filter let none through"):
        list(cloud.stream("p"))
    server.answer(sse(chunk("half"), chunk(finish="content_filter")), content_type="text/event-stream")
    stream = cloud.stream("p")
    assert list(stream) == ["half"]
    assert stream.completion.finish_reason == "content_filter"


@pytest.mark.parametrize("behaviour", ["hang", "drip", "break_off"])
def test_a_stream_ends_at_its_deadline(server: Any, cloud: CloudEndpoint, behaviour: str) -> None:
    """However the server behaves."""
    getattr(server, behaviour)()
    with pytest.raises(EndpointError) as caught:
        list(cloud.stream("p", deadline_s=1.0))
    assert caught.value.request_bytes == len(server.seen[0].body)


def test_closing_a_stream_from_another_thread_wakes_its_reader(server: Any, cloud: CloudEndpoint) -> None:
    """Whoever waits for a piece hears at once that there will be none."""
    server.hang()
    stream = cloud.stream("p")
    threading.Timer(0.05, stream.close).start()
    with pytest.raises(EndpointUnavailableError, match="closed"):
        list(stream)


def test_a_stream_of_a_closed_endpoint_is_a_typed_error(server: Any, cloud: CloudEndpoint) -> None:
    """As a whole completion of one is."""
    cloud.close()
    with pytest.raises(EndpointUnavailableError, match="was closed"):
        cloud.stream("p")
