"""Clients that go away, and models that fail in the middle of an answer."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import openai
import pytest

from pocketseq_distill.decoder import OnToken
from pocketseq_distill.generation import Answer, Request, TeacherModel
from pocketseq_distill.serving.app import Api
from pocketseq_distill.serving.batcher import Batcher
from pocketseq_distill.serving.decoding import Decoding


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_the_model(
    model: TeacherModel, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """When the connection closes the model is told to stop, streamed or not."""
    begun, stopped = threading.Event(), threading.Event()

    def endless(requests: Sequence[Request], on_token: OnToken) -> list[Answer]:
        token = model.tokenizer.text_ids("x")[0]
        while on_token(0, token, -1.0):
            begun.set()
            stopped.wait(0.005)
        stopped.set()
        return []

    with serve(model) as served:
        monkeypatch.setattr(model, "decode", endless)
        body = json.dumps({"model": "tiny", "prompt": "x", "stream": stream, "max_tokens": 1000}).encode()
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert begun.wait(30)
        assert stopped.wait(30)


def test_an_upload_that_breaks_off_is_no_fault_of_the_server(model: TeacherModel) -> None:
    """It ends as a request that nobody waits for, not as an error that the log tells of."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": []}
    with Batcher(model) as batcher:
        asyncio.run(Api(Decoding(model, batcher), name="tiny").app()(scope, receive, send))
    assert sent[0]["status"] == 499


def test_a_failure_is_a_500(model: TeacherModel, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that fails is status 500 in OpenAI's form, without inner details; in a stream it is an event."""

    def failing(requests: Sequence[Request], on_token: OnToken) -> list[Answer]:
        raise RuntimeError("/secret/path")

    with serve(model) as served, served.lenient_client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(model, "decode", failing)
            status, answer = served.post("/v1/completions", {"model": "tiny", "prompt": "x"})
            with pytest.raises(openai.APIError, match="the server failed to answer"):
                list(client.completions.create(model="tiny", prompt="x", stream=True))
        assert status == 500
        assert answer["error"]["type"] == "server_error"
        assert "secret" not in json.dumps(answer)
        assert served.post("/v1/completions", {"model": "tiny", "prompt": "x"})[0] == 200


def test_too_many_waiting_requests_are_a_503(
    model: TeacherModel, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with too much to do says so before it starts a stream."""
    monkeypatch.setattr("pocketseq_distill.serving.batcher.MAX_WAITING", 1)
    with serve(model) as served:
        for stream in (True, False):
            body = {"model": "tiny", "prompt": ["x"] * 128, "stream": stream}
            status, answer = served.post("/v1/completions", body)
            assert status == 503
            assert "too many requests waiting" in answer["error"]["message"]
