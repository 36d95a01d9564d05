"""CloudEndpoint: where it may send a key, where it takes it from, and that it tells nobody."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pocketseq.cloud import CloudEndpoint
from pocketseq.errors import (
    EndpointAuthError,
    EndpointError,
    EndpointUnavailableError,
)

KEY = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/v1",
        "ftp://127.0.0.1/v1",
        "example.com",
        "",
        "http://127.0.0.1.example.com/v1",
        "http://[",
        "https:///v1",
    ],
)
def test_plain_http_is_refused(url: str) -> None:
    """Text leaves over HTTPS only, save to this machine itself."""
    with pytest.raises(EndpointError, match="expected a URL such as https://host/v1"):
        CloudEndpoint(url, model="m")


@pytest.mark.parametrize("url", ["https://user:secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret"])
def test_credentials_in_the_url_are_refused(url: str) -> None:
    """A key does not belong into a URL, and the error does not repeat it."""
    with pytest.raises(EndpointError, match="without credentials") as caught:
        CloudEndpoint(url, model="m")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://bob:hunter2[@host/v1",
        "https://bob:hunter2/x@host/v1",
        "https://hunter2?@host/v1",
        "http://bob:hunter2@host/v1",
        "bob:hunter2@host/v1",
        "hunter2://host/v1",
        "sk-proj-hunter2",
    ],
)
def test_a_refused_url_is_not_repeated(url: str) -> None:
    """Whatever it holds, and wherever: neither in the error nor in what that chains."""
    with pytest.raises(EndpointError, match="expected a (base )?URL") as caught:
        CloudEndpoint(url, model="m")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("variable", ["LLM_API_KEY", "_key", "A", "MY_COMPANY_LLM_GATEWAY_API_KEY_FOR_PRODUCTION_2026"])
def test_names_of_variables(variable: str) -> None:
    """What an environment variable may be called is fine, however long."""
    with CloudEndpoint("https://host/v1", model="m", api_key_env=variable) as endpoint:
        assert endpoint.model == "m"


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-hunter2hunter2hunter2",
        "hunter2 ",
        "",
        "ghp_" + "hunter2" * 6,
        "gsk_" + "hunter2XkQ9mPzLw4" * 2,
        "hunter2XkQ9mPzLw4vBnR8sTd",
        "deadbeef0123456789abcdef76543210",
    ],
)
def test_a_key_is_no_name_of_a_variable(key: str) -> None:
    """The commonest slip is refused at once, before any message or any suggestion's reason repeats it."""
    with pytest.raises(EndpointAuthError, match=f"the name of an environment variable.* of {len(key)} characters") as caught:
        CloudEndpoint("https://host/v1", model="m", api_key_env=key)
    assert not key or key not in str(caught.value)


def test_a_model_without_a_name_is_refused() -> None:
    """Before anything is sent."""
    with pytest.raises(EndpointError, match="expected the name of a model there, found an empty one"):
        CloudEndpoint("https://host/v1", model="")


@pytest.mark.parametrize("url", ["https://host/v1/", "http://localhost:8000/v1", "http://[::1]:80/v1"])
def test_good_urls(url: str) -> None:
    """HTTPS anywhere, and plain HTTP to this machine, are fine."""
    with CloudEndpoint(url, model="m") as endpoint:
        assert endpoint.url == url.rstrip("/")


def test_loopback_goes_through_no_proxy(server: Any, monkeypatch: pytest.MonkeyPatch, chat_answer: Callable[..., Any]) -> None:
    """Plain text for this machine is not handed to a proxy that the environment names."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.answer(chat_answer("yes"))
    with CloudEndpoint(server.url, model="m") as endpoint:
        assert endpoint.complete("p").text == "yes"


def test_key_from_the_environment(server: Any, monkeypatch: pytest.MonkeyPatch, chat_answer: Callable[..., Any]) -> None:
    """The key is read from the named variable at each call, so that it can change."""
    server.answer(chat_answer("yes"))
    with CloudEndpoint(server.url, model="m", api_key_env="POCKETSEQ_TEST_KEY") as endpoint:
        for key in ("first", "second"):
            monkeypatch.setenv("POCKETSEQ_TEST_KEY", key)
            endpoint.complete("p")
    assert [seen.headers["Authorization"] for seen in server.seen] == ["Bearer first", "Bearer second"]


def test_missing_key_is_an_error_before_anything_is_sent(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unset variable is named in the error, and no request is made."""
    monkeypatch.delenv("POCKETSEQ_TEST_KEY", raising=False)
    refused = pytest.raises(EndpointAuthError, match="the environment variable POCKETSEQ_TEST_KEY, found none")
    with CloudEndpoint(server.url, model="m", api_key_env="POCKETSEQ_TEST_KEY") as endpoint, refused:
        endpoint.complete("p")
    assert server.seen == []


def test_failing_key_callable_is_a_typed_error(server: Any) -> None:
    """A key callable that raises is an EndpointAuthError that does not repeat what it said."""

    def look_up() -> str:
        raise KeyError(KEY)

    with (
        CloudEndpoint(server.url, model="m", api_key=look_up) as endpoint,
        pytest.raises(EndpointAuthError, match="raised KeyError") as caught,
    ):
        endpoint.complete("p")
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_key_is_no_argument() -> None:
    """A key given in place of a callable is refused without being repeated."""
    with pytest.raises(EndpointAuthError, match="found str") as caught:
        CloudEndpoint("https://host/v1", model="m", api_key=KEY)  # type: ignore[arg-type]
    assert KEY not in str(caught.value)


def test_two_ways_to_a_key_are_refused() -> None:
    """A variable and a callable together are ambiguous."""
    with pytest.raises(EndpointAuthError, match="found both"):
        CloudEndpoint("https://host/v1", model="m", api_key=lambda: KEY, api_key_env="A")


def test_no_secret_in_repr_logs_or_exceptions(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The key shows nowhere: not in repr, in debug logs, in the traceback of an error that echoes it, or in what that chains."""
    caplog.set_level(logging.DEBUG)
    server.answer({"error": {"message": f"Incorrect API key provided: {KEY}"}}, status=401)
    with CloudEndpoint(server.url, model="m", api_key=lambda: KEY) as endpoint:
        with pytest.raises(EndpointAuthError, match=r"provided: \[key\]") as caught:
            endpoint.complete("p")
        assert KEY not in repr(endpoint) + repr(vars(endpoint))
    assert KEY not in "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert KEY not in caplog.text
    assert "secret" not in caplog.text


def test_a_key_that_fits_no_header_is_refused(server: Any) -> None:
    """A key with a line break inside would be spelled out by the transport's error: it is refused beforehand."""
    refused = pytest.raises(EndpointAuthError, match="printable ASCII")
    with CloudEndpoint(server.url, model="m", api_key=lambda: "sk\nsecret") as endpoint, refused as caught:
        endpoint.complete("p")
    assert "secret" not in str(caught.value)


def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    """A server that cannot prove who it is gets neither key nor text, also on this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("untrusted.pem"))
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            line, _ = listener.accept()
            with context.wrap_socket(line, server_side=True) as secured:
                heard.append(secured.recv(1024))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        url = f"https://localhost:{listener.getsockname()[1]}/v1"
        refused = pytest.raises(EndpointUnavailableError, match="certificate verify failed")
        with CloudEndpoint(url, model="m", api_key=lambda: KEY) as endpoint, refused:
            endpoint.complete("p")
        thread.join(30)
    assert heard == []
