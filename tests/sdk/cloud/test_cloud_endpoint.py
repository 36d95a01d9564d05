"""CloudEndpoint: what it sends, what it makes of answers, and what it keeps to itself."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pocketseq.cloud import CloudEndpoint
from pocketseq.endpoint import Endpoint
from pocketseq.errors import (
    EndpointAuthError,
    EndpointError,
    EndpointRateLimitError,
    EndpointRefusalError,
    EndpointResponseError,
    EndpointServerError,
    EndpointTimeoutError,
    EndpointUnavailableError,
    MissingExtraError,
)

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def endpoint(server: Any) -> Iterator[CloudEndpoint]:
    with CloudEndpoint(server.url, model="m", api_key=lambda: KEY) as endpoint:
        yield endpoint


def test_is_an_endpoint(endpoint: CloudEndpoint) -> None:
    """A CloudEndpoint is one of the things that a Hybrid can ask."""
    asked: Endpoint = endpoint
    assert asked.url.startswith("http://127.0.0.1:")


def test_sends_the_prompt_as_a_chat(server: Any, endpoint: CloudEndpoint, chat_answer: Callable[..., Any]) -> None:
    """The prompt is the user's message, the instruction the system's, and the limits stand in the body."""
    server.answer(chat_answer("yes"))
    endpoint.complete("the prompt", instruction="do this", max_tokens=9)
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.json == {
        "model": "m",
        "messages": [{"role": "system", "content": "do this"}, {"role": "user", "content": "the prompt"}],
        "max_completion_tokens": 9,
    }
    assert seen.headers["Authorization"] == f"Bearer {KEY}"


def test_sends_nothing_that_was_not_given(server: Any, endpoint: CloudEndpoint, chat_answer: Callable[..., Any]) -> None:
    """Without an instruction and a limit the body holds the model and the prompt."""
    server.answer(chat_answer("yes"))
    endpoint.complete("p")
    assert server.seen[0].json == {"model": "m", "messages": [{"role": "user", "content": "p"}]}


def test_sends_further_parameters(server: Any, chat_answer: Callable[..., Any]) -> None:
    """Parameters that a service needs go into each request's body, also those that no other service knows."""
    parameters = {"temperature": 0, "logprobs": True, "top_k": 20, "chat_template_kwargs": {"enable_thinking": False}}
    server.answer(chat_answer("yes"))
    with CloudEndpoint(server.url, model="m", parameters=parameters) as endpoint:
        endpoint.complete("p")
        list(endpoint.stream("p"))
    body = {"model": "m", "messages": [{"role": "user", "content": "p"}], **parameters}
    assert [seen.json for seen in server.seen] == [body, {**body, "stream": True, "stream_options": {"include_usage": True}}]


def test_the_older_name_of_a_limit_can_stand_beside_the_newer(server: Any, chat_answer: Callable[..., Any]) -> None:
    """Servers that pass over ``max_completion_tokens`` without a word are bounded by ``max_tokens`` among the parameters."""
    server.answer(chat_answer("yes"))
    with CloudEndpoint(server.url, model="m", parameters={"max_tokens": 9}) as endpoint:
        endpoint.complete("p", max_tokens=9)
    assert (server.seen[0].json["max_tokens"], server.seen[0].json["max_completion_tokens"]) == (9, 9)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("model", "give it as model"),
        ("messages", "they are the prompt and the instruction"),
        ("max_completion_tokens", "give max_tokens to each call"),
        ("stream", r"call stream\(\)"),
        ("stream_options", r"stream\(\) sets them"),
        ("timeout", "give timeout_s"),
        ("extra_body", "put its fields into parameters themselves"),
    ],
)
def test_parameters_that_the_endpoint_sets_are_refused(name: str, remedy: str) -> None:
    """Before anything is asked, with what to do instead."""
    with pytest.raises(EndpointError, match=f"parameters: expected .*, found '{name}'; {remedy}"):
        CloudEndpoint("https://host/v1", model="m", parameters={"temperature": 0, name: 1})


def test_no_key_no_header(server: Any, chat_answer: Callable[..., Any]) -> None:
    """An endpoint without a key sends no Authorization header."""
    server.answer(chat_answer("yes"))
    with CloudEndpoint(server.url, model="m") as endpoint:
        endpoint.complete("p")
    assert server.seen[0].headers["Authorization"] is None


def test_only_needed_headers_leave(server: Any, monkeypatch: pytest.MonkeyPatch, chat_answer: Callable[..., Any]) -> None:
    """Neither facts about the machine nor another service's credentials in the environment reach the endpoint."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another-service")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Token: of-another-service")
    server.answer(chat_answer("yes"))
    with CloudEndpoint(server.url, model="m") as endpoint:
        endpoint.complete("p")
    names = {name.lower() for name in server.seen[0].headers}
    assert names == {"host", "accept", "accept-encoding", "connection", "content-length", "content-type", "user-agent"}
    assert "another-service" not in str(server.seen[0].headers)


def test_reads_the_answer(server: Any, endpoint: CloudEndpoint, chat_answer: Callable[..., Any]) -> None:
    """Text, counts, log-probabilities and sizes come back in the completion."""
    tokens = [
        {"token": "y", "logprob": -0.5, "bytes": None, "top_logprobs": []},
        {"token": "es", "logprob": -1.5, "bytes": None, "top_logprobs": []},
    ]
    server.answer(chat_answer("yes", logprobs={"content": tokens}))
    completion = endpoint.complete("p")
    assert (completion.text, completion.finish_reason) == ("yes", "stop")
    assert (completion.prompt_tokens, completion.completion_tokens) == (7, 3)
    assert completion.mean_logprob is not None
    assert math.isclose(completion.mean_logprob, -1.0)
    assert completion.logprob is not None
    assert math.isclose(completion.logprob, -2.0)  # whatever else its three tokens count
    assert completion.request_bytes == len(server.seen[0].body)
    assert completion.response_bytes > 300
    assert completion.latency_ms > 0


def test_missing_counts_are_none(server: Any, endpoint: CloudEndpoint, chat_answer: Callable[..., Any]) -> None:
    """A server that counts no tokens and gives no log-probabilities leaves them unknown."""
    server.answer({name: value for name, value in chat_answer("yes").items() if name != "usage"})
    completion = endpoint.complete("p")
    assert (completion.prompt_tokens, completion.completion_tokens) == (None, None)
    assert (completion.mean_logprob, completion.logprob) == (None, None)


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (401, EndpointAuthError, "check the key"),
        (403, EndpointAuthError, "check the key"),
        (408, EndpointTimeoutError, ""),
        (429, EndpointRateLimitError, "ask less often"),
        (500, EndpointServerError, "try again later"),
        (503, EndpointServerError, "try again later"),
        (404, EndpointError, "check the URL and the name of the model"),
    ],
)
def test_status_becomes_a_typed_error(
    server: Any, endpoint: CloudEndpoint, status: int, kind: type[EndpointError], remedy: str
) -> None:
    """Each status has its own error, which quotes the server, says what to do and what had been sent."""
    server.answer({"error": {"message": "because", "type": "t", "param": None, "code": None}}, status=status)
    with pytest.raises(kind, match=f"found {status}: because.*{remedy}$") as caught:
        endpoint.complete("p")
    assert type(caught.value) is kind
    assert caught.value.request_bytes == len(server.seen[0].body)
    assert len(server.seen) == 1  # no retry of the package's own


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>It works!</html>", "text/html"),
        (b"\xff\xfe\x00garbage", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b'"text"', "application/json"),
        (b'{"choices": []}', "application/json"),
        (b'{"choices": [{"message": {"content": 5}}]}', "application/json"),
        (b'{"choices": [{"message": null}]}', "application/json"),
        (b"", "application/json"),
    ],
)
def test_garbage_becomes_a_typed_error(server: Any, endpoint: CloudEndpoint, body: bytes, content_type: str) -> None:
    """Whatever a server sends with status 200, if it is no chat completion it is an EndpointResponseError."""
    server.answer(body, content_type=content_type)
    with pytest.raises(EndpointResponseError, match="expected a chat completion") as caught:
        endpoint.complete("p")
    assert caught.value.response_bytes == len(body)


@pytest.mark.parametrize(
    ("message", "finish", "found"),
    [
        ({"content": None, "refusal": "I can't help with that"}, "stop", "found a refusal: I can't help with that"),
        ({"content": "", "refusal": "no, sk-secret"}, "stop", r"found a refusal: no, \[key\]"),
        ({"content": "As to that,", "refusal": "no"}, "stop", "found a refusal: no"),
        ({"content": None, "refusal": ""}, "stop", "found a refusal"),
        ({"content": None}, "content_filter", "filter let none through"),
        ({}, "content_filter", "filter let none through"),
    ],
)
def test_a_refusal_is_no_answer(
    server: Any, chat_answer: Callable[..., Any], message: dict[str, object], finish: str, found: str
) -> None:
    """A model that declines, in its own words or by a filter, is an error of its own; its words tell no key."""
    server.answer(chat_answer(None, message={"role": "assistant", **message}, finish_reason=finish))
    with CloudEndpoint(server.url, model="m", api_key=lambda: "sk-secret") as endpoint:
        with pytest.raises(EndpointRefusalError, match=found):
            endpoint.complete("p")
        with pytest.raises(EndpointRefusalError, match=found):  # it answers whole to this one too
            list(endpoint.stream("p"))


def test_down(free_port: int) -> None:
    """A refused connection is an EndpointUnavailableError, and nothing left over it."""
    unavailable = pytest.raises(EndpointUnavailableError, match="is the server running?")
    with CloudEndpoint(f"http://127.0.0.1:{free_port}/v1", model="m") as endpoint, unavailable as caught:
        endpoint.complete("p")
    assert (caught.value.request_bytes, caught.value.response_bytes) == (0, 0)


def test_broken_off(server: Any, endpoint: CloudEndpoint) -> None:
    """A connection that breaks in the middle of an answer is an EndpointUnavailableError."""
    server.break_off()
    with pytest.raises(EndpointUnavailableError, match="expected a whole answer, found a connection that broke"):
        endpoint.complete("p")


@pytest.mark.parametrize("behaviour", ["hang", "drip"])
def test_deadline_holds(server: Any, endpoint: CloudEndpoint, behaviour: str) -> None:
    """A server that is silent, or that sends a byte now and then for ever, is given up at the deadline."""
    getattr(server, behaviour)()
    with pytest.raises(EndpointTimeoutError, match="in time|within 1000 ms") as caught:
        endpoint.complete("p", deadline_s=1.0)
    assert caught.value.request_bytes == len(server.seen[0].body)


def test_works_again_after_a_timeout(server: Any, endpoint: CloudEndpoint, chat_answer: Callable[..., Any]) -> None:
    """A call that was given up leaves nothing behind that disturbs the next one."""
    server.hang()
    with pytest.raises(EndpointTimeoutError):
        endpoint.complete("p", deadline_s=0.1)
    server.answer(chat_answer("yes"))
    assert endpoint.complete("p").text == "yes"


def test_redirects_are_not_followed(server: Any, endpoint: CloudEndpoint) -> None:
    """A redirect could carry key and text to another host: it is an error instead."""
    server.answer({}, status=307, Location=server.url + "/elsewhere")
    with pytest.raises(EndpointResponseError, match="redirects are not followed"):
        endpoint.complete("p")
    assert len(server.seen) == 1


def test_closed_endpoint_is_a_typed_error(server: Any) -> None:
    """Asking after close is an EndpointUnavailableError; closing twice is nothing."""
    endpoint = CloudEndpoint(server.url, model="m")
    endpoint.close()
    endpoint.close()
    with pytest.raises(EndpointUnavailableError, match="was closed"):
        endpoint.complete("p")


def test_closing_ends_a_call_under_way(server: Any) -> None:
    """A call that waits when the endpoint is closed ends at once, with a typed error."""
    server.hang()
    endpoint = CloudEndpoint(server.url, model="m")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(endpoint.complete, "p")
        while not server.seen:
            time.sleep(0.005)
        endpoint.close()
        with pytest.raises(EndpointUnavailableError):
            call.result(30)


def test_many_threads_share_an_endpoint(server: Any, endpoint: CloudEndpoint, chat_answer: Callable[..., Any]) -> None:
    """Concurrent calls are counted apart."""
    server.answer(chat_answer("yes"))
    prompts = ["p" * length for length in range(1, 33)]
    with ThreadPoolExecutor(8) as pool:
        completions = list(pool.map(endpoint.complete, prompts))
    sizes = {len(seen.json["messages"][0]["content"]): len(seen.body) for seen in server.seen}
    assert [completion.request_bytes for completion in completions] == [sizes[len(prompt)] for prompt in prompts]


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the openai package the error ends in the line that installs it."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r'pip install "pocketseq\[cloud\]"$'):
        CloudEndpoint("https://host/v1", model="m")
