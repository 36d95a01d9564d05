"""The server's answers, raw, against OpenAI's public contract."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

import pytest
from tests.contract import problems

from pocketseq.cloud import CloudEndpoint

from .conftest import Served

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "retur value"}]}


def test_a_chat_completion(served: Served) -> None:
    """With and without log-probabilities."""
    for more in ({}, {"logprobs": True}, {"max_completion_tokens": 2}):
        status, answer = served.post("/v1/chat/completions", {**CHAT, **more})
        assert status == 200
        assert problems("CreateChatCompletionResponse", answer) == []


def test_a_stream_of_chunks(served: Served) -> None:
    """Every chunk, the one that counts tokens included."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    body = json.dumps({**CHAT, "stream": True, "stream_options": {"include_usage": True}})
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    rows = connection.getresponse().read().decode().split("\n\n")
    connection.close()
    chunks = [json.loads(row.removeprefix("data: ")) for row in rows if row and row != "data: [DONE]"]
    assert len(chunks) > 2
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    for chunk in chunks:
        assert problems("CreateChatCompletionStreamResponse", chunk) == []


@pytest.mark.parametrize("body", [b"{", {"model": "other", "messages": CHAT["messages"]}, {"model": "tiny", "messages": []}])
def test_an_error(served: Served, body: Any) -> None:
    """Bad JSON, an unknown model, nothing asked."""
    status, answer = served.post("/v1/chat/completions", body)
    assert status >= 400
    assert problems("ErrorResponse", answer) == []


def test_the_sdk_s_client_streams_from_it(served: Served) -> None:
    """Streamed pieces together are the whole answer, with the counts."""
    with CloudEndpoint(served.url, model="tiny") as cloud:
        whole = cloud.complete("retur value")
        stream = cloud.stream("retur value")
        assert "".join(stream) == whole.text
    assert stream.completion.completion_tokens == whole.completion_tokens
    assert stream.completion.finish_reason == whole.finish_reason
