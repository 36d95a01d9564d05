"""What the HTTP API refuses, and in which words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import openai
import pytest

from pocketseq.cloud import CloudEndpoint
from pocketseq.errors import EndpointAuthError, EndpointError
from pocketseq_distill.generation import TeacherModel

from .conftest import Served

GOOD_CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
GOOD = {"model": "tiny", "prompt": "x"}


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "words"),
    [
        ("completions", b"{", 400, None, "expected JSON as body"),
        ("completions", b"\xff", 400, None, "expected JSON as body"),
        ("completions", b"[" * 100_000, 400, None, "expected JSON as body"),
        ("completions", b"", 400, None, "expected JSON as body"),
        ("completions", [], 400, None, "expected a JSON object"),
        ("completions", {"prompt": "x"}, 400, "model", "model: expected a string"),
        ("completions", {**GOOD, "model": "gpt-4"}, 404, "model", "expected 'tiny', found 'gpt-4'"),
        ("completions", {"model": "tiny"}, 400, "prompt", "prompt: expected a string"),
        ("completions", {**GOOD, "prompt": 5}, 400, "prompt", "prompt: expected a string"),
        ("completions", {**GOOD, "prompt": [1, 2]}, 400, "prompt", "prompt: expected a string"),
        ("completions", {**GOOD, "prompt": []}, 400, "prompt", "prompt: expected a string"),
        ("completions", {**GOOD, "prompt": ["x"] * 129}, 400, "prompt", "at most 128 prompts"),
        ("completions", {**GOOD, "prompt": "  "}, 400, "prompt", "expected text in the field 'text'"),
        ("completions", {**GOOD, "prompt": "\ud800"}, 400, "prompt", "lone surrogate"),
        ("completions", {**GOOD, "prompt": "name " * 50}, 400, "prompt", "at most 24 tokens in 'text'"),
        ("completions", {**GOOD, "max_tokens": 5000}, 400, "max_tokens", "at most 1024 tokens"),
        ("completions", {**GOOD, "max_tokens": 0}, 400, "max_tokens", "max_tokens: expected a whole number of at least 1"),
        ("completions", {**GOOD, "max_tokens": "9"}, 400, "max_tokens", "max_tokens: expected a whole number"),
        ("completions", {**GOOD, "max_tokens": True}, 400, "max_tokens", "max_tokens: expected a whole number"),
        ("completions", {**GOOD, "max_tokens": 2.5}, 400, "max_tokens", "max_tokens: expected a whole number"),
        ("completions", {**GOOD, "temperature": 3}, 400, "temperature", "temperature: expected a number from 0 to 2"),
        ("completions", {**GOOD, "temperature": math.nan}, 400, "temperature", "temperature: expected a number"),
        ("completions", {**GOOD, "seed": 2**70}, 400, "seed", "seed: expected a whole number"),
        ("completions", {**GOOD, "stream": "yes"}, 400, "stream", "stream: expected true or false"),
        ("completions", {**GOOD, "stream_options": 1}, 400, "stream_options", "stream_options: expected an object"),
        ("completions", {**GOOD, "logprobs": 5}, 400, "logprobs", "alternatives to the chosen tokens are not kept"),
        ("completions", {**GOOD, "n": 2}, 400, "n", "this server does not know it"),
        ("completions", {**GOOD, "stop": ["\n"]}, 400, "stop", "this server does not know it"),
        ("completions", {**GOOD, "top_k": 1}, 400, "top_k", "top_k: this server does not know it"),
        ("completions", {**GOOD, "min_p": 0.1}, 400, "min_p", "min_p: this server does not know it"),
        ("completions", {**GOOD, "verbosity": "low"}, 400, "verbosity", "verbosity: this server does not know it"),
        ("completions", {**GOOD, "modalities": ["text", "audio"]}, 400, "modalities", "this server does not know it"),
        ("completions", {**GOOD, "ignore_eos": True}, 400, "ignore_eos", "this server does not know it"),
        ("completions", {**GOOD, "max_completion_tokens": 1}, 400, "max_completion_tokens", "this server does not know it"),
        ("completions", {**GOOD, "messages": []}, 400, "messages", "this server does not know it"),
        ("completions", {**GOOD, "\ud800": 1}, 400, "\\ud800", "this server does not know it"),
        ("completions", {**GOOD, "x" * 100: 1}, 400, "x" * 40, "this server does not know it"),
        ("chat/completions", {"model": "tiny"}, 400, "messages", "messages: expected a list"),
        ("chat/completions", {**GOOD_CHAT, "messages": []}, 400, "messages", "messages: expected a list"),
        ("chat/completions", {**GOOD_CHAT, "messages": ["x"]}, 400, "messages[0]", "expected an object with a role"),
        ("chat/completions", {**GOOD_CHAT, "messages": [{"role": "system", "content": "x"}]}, 400, "messages", "found none"),
        ("chat/completions", {**GOOD_CHAT, "messages": [{"role": "king", "content": "x"}]}, 400, "messages[0]", "a role among"),
        ("chat/completions", {**GOOD_CHAT, "messages": [{"role": "user"}]}, 400, "messages[0].content", "expected a string"),
        (
            "chat/completions",
            {**GOOD_CHAT, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "messages[0].content",
            "parts of the type 'text' only",
        ),
        ("chat/completions", {**GOOD_CHAT, "logprobs": 1}, 400, "logprobs", "logprobs: expected true or false"),
        ("chat/completions", {**GOOD_CHAT, "guided_regex": "a+"}, 400, "guided_regex", "this server does not know it"),
        ("chat/completions", {**GOOD_CHAT, "prompt": "x"}, 400, "prompt", "this server does not know it"),
        ("chat/completions", {**GOOD_CHAT, "tools": [{}]}, 400, "tools", "this server does not know it"),
        ("nothing", GOOD, 404, None, "Not Found"),
        ("models", GOOD, 405, None, "Method Not Allowed: expected GET"),
    ],
)
def test_bad_requests(served: Served, path: str, body: object, status: int, param: str | None, words: str) -> None:
    """What is wrong with a request is told in OpenAI's error form, with the status and the field at fault."""
    found, answer = served.post(f"/v1/{path}", body)
    assert found == status
    assert set(answer) == {"error"}
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert words in error["message"]


def test_a_wrong_method_is_told_the_right_one(served: Served) -> None:
    """A 405 has the header Allow, as HTTP demands."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", "/v1/completions")
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    assert (response.status, response.getheader("allow")) == (405, "POST")
    assert content["error"]["message"] == "Method Not Allowed: expected POST"


def test_a_huge_body_is_refused(served: Served) -> None:
    """A body past the limit is refused with 413 before it is parsed."""
    status, answer = served.post("/v1/completions", {**GOOD, "prompt": "x" * (1 << 20)})
    assert status == 413
    assert "expected a body of at most" in answer["error"]["message"]


def test_the_key_is_required(model: TeacherModel, serve: Callable[..., Any]) -> None:
    """With a key set, everything under /v1 wants it as a bearer; /health does not."""
    with serve(model, api_key="s3cret") as served:
        with served.client(api_key="s3cret") as client:
            assert client.chat.completions.create(**GOOD_CHAT).object == "chat.completion"
        with served.client(api_key="wrong") as client, pytest.raises(openai.AuthenticationError, match="this server's key"):
            client.chat.completions.create(**GOOD_CHAT)
        assert served.post("/v1/completions", GOOD)[0] == 401
        assert served.post("/v1/completions", GOOD, Authorization="Basic s3cret")[0] == 401
        with CloudEndpoint(served.url, model="tiny", api_key=lambda: "wrong") as cloud, pytest.raises(EndpointAuthError):
            cloud.complete("x")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Host": "far.example"}, "expected 'localhost' or an address as Host, found 'far.example'"),
        ({"Host": "localhost.far.example:8000"}, "expected 'localhost' or an address as Host"),
        ({"Host": "notlocalhost"}, "expected 'localhost' or an address as Host"),
        ({"Host": "[::1"}, "expected 'localhost' or an address as Host"),
        ({"Origin": "https://far.example"}, "found 'https://far.example' as Origin"),
        ({"Origin": "http://localhost.far.example"}, "as Origin"),
        ({"Origin": "http://notlocalhost"}, "as Origin"),
        ({"Origin": "http://[::1"}, "as Origin"),
        ({"Origin": "null"}, "as Origin"),
    ],
)
def test_web_pages_of_other_sites_are_kept_out(
    served: Served, model: TeacherModel, serve: Callable[..., Any], headers: dict[str, str], words: str
) -> None:
    """Without a key a browser must not make this machine's server work for a page, nor a page reach it by a name of its own."""
    status, answer = served.post("/v1/completions", GOOD, **headers)
    assert status == 403
    assert words in answer["error"]["message"]
    with serve(model, api_key="s3cret") as keyed:
        assert keyed.post("/v1/completions", GOOD, Authorization="Bearer s3cret", **headers)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8000"},
        {"Host": "LOCALHOST"},
        {"Host": "localhost.:8000"},
        {"Host": "app.localhost:8000"},
        {"Host": "[::1]:8000"},
        {"Host": "192.0.2.1"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://app.localhost:3000"},
        {"Origin": "https://tauri.localhost"},
        {"Origin": "vscode-webview://1a2b"},
    ],
)
def test_this_machine_s_programs_are_let_in(served: Served, headers: dict[str, str]) -> None:
    """A page of this machine, an application, and what reaches the server by an address are no web page of another site."""
    assert served.post("/v1/completions", GOOD, **headers)[0] == 200


def test_a_refused_request_is_an_endpoint_error(served: Served) -> None:
    """What the server refuses reaches the SDK as a typed error with the server's words."""
    with CloudEndpoint(served.url, model="other") as cloud, pytest.raises(EndpointError, match="expected 'tiny', found 'other'"):
        cloud.complete("x")
