"""A cloud model behind an OpenAI-compatible API, with the ``openai`` package as transport."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pocketseq.cloudstream import CloudStream
from pocketseq.endpoint import Completion
from pocketseq.errors import (
    EndpointAuthError,
    EndpointError,
    EndpointOfflineError,
    EndpointTimeoutError,
    EndpointUnavailableError,
    MissingExtraError,
)
from pocketseq.eventloop import BackgroundLoop
from pocketseq.exchange import Exchange, completion_of, failure_of, on_connection, on_request, on_response
from pocketseq.network import is_offline, leaves_this_network
from pocketseq.privacy.secrets import secrets

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The name of an environment variable."""

_NO_PARAMETERS: Final[Mapping[str, str]] = {
    "model": "give it as model",
    "messages": "they are the prompt and the instruction of each call",
    "max_completion_tokens": "give max_tokens to each call, or to the policy of a hybrid",
    "stream": "call stream() for pieces",
    "stream_options": "stream() sets them",
    "timeout": "give timeout_s, or deadline_s to each call",
    "extra_body": "put its fields into parameters themselves",
}
"""What is no further field of the body, and what to do instead: the endpoint sets it, or it is an argument of a client's."""


class CloudEndpoint:
    """A ``StreamingEndpoint`` that speaks the OpenAI chat API; safe to share between threads.

    Text leaves over HTTPS with certificates verified, or to this machine itself. No retries and no redirects. The key is read
    anew for each call, put on the request on its way out and kept nowhere.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        api_key_env: str | None = None,
        api_key: Callable[[], str] | None = None,
        timeout_s: float = 30.0,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        """Name an endpoint; nothing is sent before the first ``complete``.

        Args:
            base_url: Root of the API, such as ``https://host/v1``.
            model: Name of the model there.
            api_key_env: Name of the environment variable that holds the key.
            api_key: Called for the key instead, such as a keyring look-up.
            timeout_s: Bound on every call; a call's own deadline can only shorten it.
            parameters: Further fields of each request's body, such as ``{"temperature": 0, "top_k": 20}``: what the server knows.
                One that passes over ``max_completion_tokens``, as which a call's limit is sent, needs ``max_tokens`` here.

        Raises:
            EndpointError: the URL is not HTTPS and not of this machine, or holds credentials; the model has no name; or a parameter
                is one that the endpoint itself sets.
            EndpointAuthError: a key where a name or a callable is expected, or both of these.
            MissingExtraError: the ``openai`` package is not installed.
        """
        loopback = _check_url(base_url)
        if not model:
            raise EndpointError(f"{base_url}: expected the name of a model there, found an empty one")
        if api_key is not None and (api_key_env is not None or not callable(api_key)):
            raise EndpointAuthError(
                "expected api_key_env (the name of an environment variable) or api_key (a callable that returns the key), "
                f"found {'both' if callable(api_key) else type(api_key).__name__}"
            )
        if api_key_env is not None:
            _check_name(api_key_env)
        for name in parameters or {}:
            if name in _NO_PARAMETERS:
                raise EndpointError(
                    f"parameters: expected further fields of each request's body, found {name!r}; {_NO_PARAMETERS[name]}"
                )
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("cloud", "openai") from error
        self._url = base_url.rstrip("/")
        self._model = model
        self._api_key_env = api_key_env
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._parameters = dict(parameters or {})
        self._client = openai.AsyncOpenAI(
            base_url=self._url,
            api_key="put on by the request hook",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False,
                trust_env=not loopback,  # a proxy from the environment would carry loopback's plain text elsewhere
                event_hooks={"request": [on_request], "response": [on_response]},
            ),
        )
        self._needs_network = not loopback and leaves_this_network(base_url)
        self._completions = self._client.chat.completions  # imported here, lest the first call pays for it out of its deadline
        self._background = BackgroundLoop("pocketseq-cloud", at_end=self._client.close, on_connection=on_connection)

    def __repr__(self) -> str:
        return f"CloudEndpoint({self._url!r}, model={self._model!r})"

    @property
    def url(self) -> str:
        """Root of the API."""
        return self._url

    @property
    def model(self) -> str:
        """Name of the model there."""
        return self._model

    def complete(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> Completion:
        """Answer one prompt with one request; see ``Endpoint.complete``.

        Raises:
            EndpointUnavailableError: refused, unresolvable or broken connection.
            EndpointOfflineError: this machine has no network; no connection was tried.
            EndpointTimeoutError: no whole answer within ``deadline_s`` or ``timeout_s``, however slowly bytes arrive.
            EndpointAuthError: no key, 401 or 403.
            EndpointRateLimitError: 429.
            EndpointServerError: 5xx.
            EndpointResponseError: an answer that is no chat completion, or a redirect.
            EndpointError: any other status.
        """
        limit_s = self._timeout_s if deadline_s is None else min(deadline_s, self._timeout_s)
        exchange = self._exchange()
        body = self._body(prompt, instruction, max_tokens)
        failure: EndpointError
        try:
            return self._background.run(self._ask(exchange, body, limit_s), timeout_s=limit_s)
        except TimeoutError:
            failure = EndpointTimeoutError(f"{self._url}: expected an answer within {limit_s * 1000:.0f} ms, found none")
        except CancelledError:
            failure = EndpointUnavailableError(
                f"{self._url}: expected an open endpoint, found one that was closed", retryable=False
            )
        failure.request_bytes, failure.response_bytes = exchange.request_bytes, exchange.response_bytes
        raise failure

    def stream(
        self, prompt: str, *, instruction: str = "", max_tokens: int | None = None, deadline_s: float | None = None
    ) -> CloudStream:
        """Begin to answer one prompt with one request; see ``StreamingEndpoint.stream``.

        A server that answers whole instead gives one piece.

        Raises:
            EndpointError: as ``complete``, here or while the pieces come; also where the stream ends before the answer does.
        """
        limit_s = self._timeout_s if deadline_s is None else min(deadline_s, self._timeout_s)
        exchange = self._exchange()
        body = {**self._body(prompt, instruction, max_tokens), "stream": True, "stream_options": {"include_usage": True}}
        return CloudStream(self._background, self._completions, exchange, body, limit_s=limit_s)

    def close(self) -> None:
        """Close the connections and end the background thread; calls under way fail."""
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self) -> Exchange:
        key = self._read_key()
        if self._needs_network and is_offline():
            raise EndpointOfflineError(f"{self._url}: expected a network, found this machine offline; nothing was sent")
        return Exchange(self._url, key)

    def _body(self, prompt: str, instruction: str, max_tokens: int | None) -> dict[str, Any]:
        messages = [{"role": "system", "content": instruction}] if instruction else []
        messages.append({"role": "user", "content": prompt})
        # as arguments of their own, parameters would be refused where the package does not know them
        body: dict[str, Any] = {"model": self._model, "messages": messages, "extra_body": self._parameters}
        if max_tokens is not None:
            body["max_completion_tokens"] = max_tokens
        return body

    async def _ask(self, exchange: Exchange, body: dict[str, Any], limit_s: float) -> Completion:
        with exchange:
            try:
                return completion_of(await self._completions.create(**body, timeout=limit_s), exchange)
            except Exception as error:
                failure = failure_of(error, exchange)
        # raised out here, so that the transport's error does not come along: it holds the request, and that the key
        raise failure

    def _read_key(self) -> str | None:
        if self._api_key_env is not None:
            return _check_key(os.environ.get(self._api_key_env), f"the environment variable {self._api_key_env}")
        if self._api_key is None:
            return None
        try:
            return _check_key(self._api_key(), "what the api_key callable returned")
        except EndpointAuthError:
            raise
        except Exception as error:
            raised = type(error).__name__
        raise EndpointAuthError(f"expected the api_key callable to return a key, found that it raised {raised}")


def _check_url(url: str) -> bool:
    """Refuse a URL over which text or a key could leak; tell whether it leads to this machine itself."""
    # No part of what is refused is repeated: where credentials stand in what is no good URL, nobody can tell.
    found = f"something else of {len(url)} characters" if url else "none"
    try:
        parts = urlsplit(url)
        _ = parts.port  # a password with a slash in it is read as a host and its port
    except ValueError:
        parts = urlsplit("")  # refused below: from in here the error would bring its cause along, and that what stands there
    host = parts.hostname or ""
    if parts.username or parts.password or parts.query or parts.fragment:
        raise EndpointError(
            f"expected a base URL without credentials, query or fragment, found some in one of {len(url)} characters; "
            "name the key's environment variable in api_key_env"
        )
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        if host and parts.scheme == "http":
            found = "http to another machine"
        raise EndpointError(f"expected a URL such as https://host/v1 (http only for this machine itself), found {found}")
    return loopback


def _check_name(name: str) -> None:
    """Refuse what is no name of an environment variable, above all a key itself, before any message repeats it."""
    # The words of a name do not look random, those of a key do.
    words = " ".join(f'"{word}"' for word in name.split("_"))
    if not _NAME.fullmatch(name) or any(secrets(f"{name} {words}")):
        raise EndpointAuthError(
            "expected api_key_env to be the name of an environment variable that holds the key, found something else of "
            f"{len(name)} characters; if that is the key itself, put it into a variable and give the variable's name"
        )


def _check_key(key: object, origin: str) -> str:
    """Refuse what cannot stand in a header: the transport's error would spell it out."""
    if not isinstance(key, str) or not key.strip():
        raise EndpointAuthError(f"expected a key in {origin}, found none; set it, or leave the argument out where none is needed")
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise EndpointAuthError(f"expected a key of printable ASCII characters in {origin}, found others")
    return key
