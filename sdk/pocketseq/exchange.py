"""One request to an OpenAI-compatible API: what leaves, what comes back, and what can go wrong between."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from statistics import fmean
from typing import Any, Self

from pocketseq.endpoint import Completion
from pocketseq.errors import (
    EndpointAuthError,
    EndpointError,
    EndpointRateLimitError,
    EndpointRefusalError,
    EndpointResponseError,
    EndpointServerError,
    EndpointTimeoutError,
    EndpointUnavailableError,
)

_KEPT_HEADERS = frozenset({"host", "accept", "accept-encoding", "connection", "content-length", "content-type"})
"""Request headers that may leave. The ``openai`` package adds others: facts about this machine, and credentials for another
company's service that it finds in ``OPENAI_…`` variables."""


@dataclass(slots=True)
class Exchange:
    """What one call has sent and received so far; it outlives the call's failure."""

    url: str
    """Root of the API, for messages."""
    key: str | None = field(repr=False)
    """The bearer key, if any."""
    started_s: float = field(default_factory=time.monotonic)
    """Monotonic time of the call."""
    request_bytes: int = 0
    """Size of the request body, once it is handed to the network."""
    response: Any = None
    """The transport's response, once its headers are there."""
    connections: list[asyncio.Transport] = field(default_factory=list, repr=False)
    """What was opened for it."""

    @property
    def response_bytes(self) -> int:
        """Bytes of the response's body so far."""
        return 0 if self.response is None else int(self.response.num_bytes_downloaded)

    def redact(self, words: str) -> str:
        """Strike the key out of words that a server or a library chose."""
        return words.replace(self.key, "[key]") if self.key else words

    def __enter__(self) -> Self:
        """Let the transport's hooks work for it."""
        current_exchange.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Break off the connections that were opened for it and brought no whole answer.

        One that opens, or closes, in the moment in which the call is cancelled or out of time is forgotten by the transport:
        nobody would ever close it. One that brought an answer is the transport's, to close or to use again.
        """
        if self.response is None or kind is not None:
            for connection in self.connections:
                connection.abort()


current_exchange: ContextVar[Exchange] = ContextVar("current_exchange")
"""The exchange that the transport's hooks work for."""


def on_connection(connection: asyncio.Transport) -> None:
    """Remember a connection with the exchange that it is opened for."""
    current_exchange.get().connections.append(connection)


async def on_request(request: Any) -> None:
    """Leave on a request what it needs and no more, and put the key on it."""
    exchange = current_exchange.get()
    for name in [name for name in request.headers if name.lower() not in _KEPT_HEADERS]:
        del request.headers[name]
    request.headers["user-agent"] = "pocketseq"
    if exchange.key is not None:
        request.headers["authorization"] = f"Bearer {exchange.key}"
    size_bytes = len(request.content)

    async def on_event(event: str, info: Any) -> None:
        """Count what leaves when it does: a connection that is refused takes nothing with it, nor does asking a proxy for one."""
        if event.endswith(".send_request_headers.started") and info["request"].method != b"CONNECT":
            exchange.request_bytes += size_bytes

    request.extensions["trace"] = on_event


async def on_response(response: Any) -> None:
    """Remember the response, so that a broken one is still counted."""
    current_exchange.get().response = response


def completion_of(answer: Any, exchange: Exchange) -> Completion:
    """Take a chat completion apart; the package does not check what a server sends.

    Raises:
        EndpointRefusalError: it holds a refusal, or a filter left no text in it.
        EndpointResponseError: it holds no text.
    """
    try:
        choice = answer.choices[0]
    except (AttributeError, LookupError, TypeError):
        choice = None
    message, reason = getattr(choice, "message", None), getattr(choice, "finish_reason", None)
    text, refusal = getattr(message, "content", None), getattr(message, "refusal", None)
    if isinstance(refusal, str) and (refusal or text is None):
        raise EndpointRefusalError(f"expected an answer, found a refusal: {exchange.redact(refusal)[:200]}")
    if text is None and reason == "content_filter":
        raise EndpointRefusalError("expected an answer, found that the endpoint's filter let none through")
    if not isinstance(text, str):
        found = f"a text of {len(answer)} characters" if isinstance(answer, str) else "JSON of another shape"
        raise EndpointResponseError(f"expected a chat completion with text in choices[0].message.content, found {found}")
    usage, logprobs = getattr(answer, "usage", None), _logprobs(choice)
    return Completion(
        text=text,
        finish_reason=reason if isinstance(reason, str) else None,
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        mean_logprob=fmean(logprobs) if logprobs else None,
        latency_ms=(time.monotonic() - exchange.started_s) * 1000,
        request_bytes=exchange.request_bytes,
        response_bytes=exchange.response_bytes,
        model=_name(answer),
        logprob=math.fsum(logprobs) if logprobs else None,
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a server asks to be left alone: ``retry-after-ms``, or ``Retry-After`` as seconds or date (RFC 9110).

    A date is held against the server's own ``Date``, where it sends one: a device's clock may be off by hours.
    """
    words = headers.get("retry-after-ms", "")
    try:
        return max(0.0, float(words) / 1000)
    except ValueError:
        words = headers.get("retry-after", "")
    try:
        seconds = float(words)
    except ValueError:
        if (until_s := _moment_s(words)) is None:
            return None
        now_s = _moment_s(headers.get("date", ""))
        seconds = until_s - (time.time() if now_s is None else now_s)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _moment_s(words: str) -> float | None:
    """Seconds since the epoch of a date as HTTP writes it; None where it is none."""
    try:
        return parsedate_to_datetime(words).timestamp()
    except (ValueError, OverflowError, OSError):  # not all systems reckon with all years
        return None


def _name(answer: object) -> str | None:
    value = getattr(answer, "model", None)
    return value if isinstance(value, str) else None


def _count(usage: object, name: str) -> int | None:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) else None


def _logprobs(choice: object) -> list[float]:
    """Of the answer's tokens; none where the endpoint gives none."""
    tokens = getattr(getattr(choice, "logprobs", None), "content", None)
    values = [getattr(token, "logprob", None) for token in tokens] if isinstance(tokens, list) else []
    return [value for value in values if isinstance(value, int | float)]


def failure_of(error: Exception, exchange: Exchange) -> EndpointError:
    """Put an error of the transport into this project's tree, without its request and without the key."""
    import openai

    kind, words = _translate(error, exchange)
    status = error.status_code if isinstance(error, openai.APIStatusError) else None
    retryable = None
    if status is not None:
        retryable = status in {408, 409, 429} or status >= 500
    elif exchange.response is not None:
        retryable = False  # it had begun to answer: what the request set going must not be set going twice
    return kind(
        f"{exchange.url}: {words}",
        request_bytes=exchange.request_bytes,
        response_bytes=exchange.response_bytes,
        status=status,
        retryable=retryable,
        retry_after_s=retry_after_s(error.response.headers) if isinstance(error, openai.APIStatusError) else None,
    )


def _translate(error: Exception, exchange: Exchange) -> tuple[type[EndpointError], str]:
    import openai

    def quote(words: object) -> str:
        return exchange.redact(str(words))[:200]

    if isinstance(error, EndpointError):
        return type(error), str(error)
    if isinstance(error, openai.APITimeoutError):
        return EndpointTimeoutError, "expected an answer in time, found none"
    if isinstance(error, openai.APIConnectionError):
        found = quote(error.__cause__ or error) or type(error.__cause__).__name__
        if type(error.__cause__).__name__ in {"ReadError", "RemoteProtocolError"}:
            return EndpointUnavailableError, f"expected a whole answer, found a connection that broke: {found}"
        return EndpointUnavailableError, f"expected a connection, found: {found}; is the server running?"
    if type(error).__module__.partition(".")[0].startswith("httpx"):  # the package lets those through while it reads a stream
        return EndpointUnavailableError, f"expected a whole answer, found a connection that broke: {quote(error)}"
    if not isinstance(error, openai.APIStatusError):
        return EndpointResponseError, f"expected a chat completion, found one that cannot be read: {quote(error)}"
    status = error.status_code
    detail = error.body.get("message", error.body) if isinstance(error.body, dict) else error.body
    found = f"expected status 200, found {status}: {quote(detail or 'no explanation')}"
    if status in {401, 403}:
        return EndpointAuthError, f"{found}; check the key"
    if status == 408:
        return EndpointTimeoutError, found
    if status == 429:
        return EndpointRateLimitError, f"{found}; ask less often"
    if status >= 500:
        return EndpointServerError, f"{found}; the endpoint has a fault of its own, try again later"
    if status == 404:
        return EndpointError, f"{found}; check the URL and the name of the model"
    if status < 400:
        return EndpointResponseError, f"{found}; redirects are not followed, give the URL that this one leads to"
    return EndpointError, found
